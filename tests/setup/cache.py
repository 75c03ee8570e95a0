"""Where the set-up keeps what every clone of the project can share."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The project's folder in the user's cache; it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG rules call a relative path invalid.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "criimage"
