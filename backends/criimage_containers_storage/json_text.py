"""Reading JSON that others have written, registries and images among them."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["parse"]


def parse(text: str | bytes) -> Any:  # noqa: ANN401 - JSON can hold anything
    """Read JSON text.

    Raises:
        ValueError: it is none, or nested so deeply that it cannot be read: Python tells that by a RecursionError, which
            whoever expects a ValueError would let through.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
