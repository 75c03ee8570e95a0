"""How a CRI endpoint is written."""

from __future__ import annotations

import os
from pathlib import Path

from criimage.errors import ConfigurationError

__all__ = ["DEFAULT_ENDPOINT", "PASSED_SOCKET", "socket_path"]

DEFAULT_ENDPOINT = "unix:///run/criimage/criimage.sock"
PASSED_SOCKET = "fd://"
"""A server's socket that systemd has opened."""

_PATH_LENGTH_LIMIT = 107


def socket_path(endpoint: str) -> Path:
    """Return the path of a `unix://` endpoint, or of a bare absolute path.

    Raises:
        ConfigurationError: another scheme, a relative path, or one too long for a socket.
    """
    text = endpoint.removeprefix("unix://")
    if "://" in text or not text.startswith("/") or "\0" in text:
        raise ConfigurationError(f'endpoint "{endpoint}" is not of the form unix:///path')
    if len(os.fsencode(text)) > _PATH_LENGTH_LIMIT:
        raise ConfigurationError(f"the socket path {text} is longer than {_PATH_LENGTH_LIMIT} bytes")
    return Path(text)
