"""The conformance suite: what docs/contract.md promises, proven for any backend.

    class TestMyStore(BackendConformance):
        capabilities = Capability.EXPECTED | Capability.IN_USE

        @pytest.fixture
        def open_backend(self, tmp_path): ...   # a function that opens the backend, async with, on one store

        @pytest.fixture
        def registry(self): ...                 # a ConformanceRegistry, see criimage.testing.stand

Needs pytest and pytest-asyncio. A new release may add behaviours, and so tests. The numbers in the tests are those of
docs/contract.md.
"""

from __future__ import annotations

from criimage.testing.conformance.pulling import Pulling
from criimage.testing.conformance.reading import Reading
from criimage.testing.conformance.removing import Removing
from criimage.testing.stand import Capability

__all__ = ["BackendConformance", "Capability"]


class BackendConformance(Reading, Pulling, Removing):
    """Every behaviour. To leave one out, override its test and say why in its body."""
