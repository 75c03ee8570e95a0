"""Settings files: TOML that an operator, a package or a tool has written, within the bounds of criimage.foreign_json.

What Python's reader makes of a number of 5000 digits or of a thousand brackets depends on the interpreter; here each is
an error in the file like any other.
"""

from __future__ import annotations

import tomllib
from typing import Any

from criimage.foreign_json import Bounds, check

__all__ = ["parse_toml"]

_BOUNDS = Bounds(depth=32, members=1_000_000, digits=19)
"""TOML's own integers have 64 bits."""


def parse_toml(text: str | bytes) -> dict[str, Any]:
    """Read TOML text.

    Raises:
        ValueError: it is none, and then the text says in which line; or it is larger, deeper or more than is allowed.
    """
    if len(text) > _BOUNDS.size:
        raise ValueError(f"larger than {_BOUNDS.size} bytes")
    try:
        found = tomllib.loads(text.decode("utf-8") if isinstance(text, bytes) else text)
    except RecursionError:
        raise ValueError(f"nested deeper than {_BOUNDS.depth}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise
    except ValueError:
        # The interpreter's own limit, in words that tell an operator nothing.
        raise ValueError(f"a number of more than {_BOUNDS.digits} digits") from None
    check(found, _BOUNDS)
    return found
