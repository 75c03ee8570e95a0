"""Every planted fault: what is wrong, which behaviour catches it on the wire, and which test of the backend suite."""

from __future__ import annotations

import conformance.planted.looking
import conformance.planted.pulling
import conformance.planted.removing
import conformance.planted.server  # noqa: F401 - each module plants its own
from conformance.planted.fault import planted

__all__ = ["FAULTS"]

FAULTS = tuple(planted)
