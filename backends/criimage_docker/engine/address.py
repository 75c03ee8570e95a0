"""Where the engine listens, from the settings and the variables that docker's own client reads."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from criimage.errors import ConfigurationError
from criimage.files import UnreadableFile, is_there

if TYPE_CHECKING:
    from collections.abc import Mapping

    from criimage_docker.settings import Settings

__all__ = ["Address", "find_address"]

_HOST = ("backends", "docker", "host")
_CERTIFICATES = ("backends", "docker", "cert_path")
_DEFAULT = "unix:///var/run/docker.sock"
_PLAIN_PORT = 2375
_TLS_PORT = 2376


@dataclass(frozen=True, slots=True)
class Address:
    """Where the engine listens.

    Attributes:
        shown: as the operator wrote it, for messages.
        base: what request paths are appended to.
        socket: path of a unix socket, or empty.
        tls: for https, else None.
    """

    shown: str
    base: str
    socket: str = ""
    tls: ssl.SSLContext | None = None

    @property
    def local(self) -> bool:
        """Whether the engine's folders can be expected on this machine."""
        return bool(self.socket)

    def connector(self, limit: int) -> aiohttp.BaseConnector:
        """Return a pool of at most `limit` connections, 0 for any number; needs a running event loop."""
        if self.socket:
            return aiohttp.UnixConnector(self.socket, limit=limit)
        return aiohttp.TCPConnector(ssl=self.tls or True, limit=limit)


def find_address(settings: Settings, environment: Mapping[str, str]) -> Address:
    """Return where the engine listens. Blocks on reading certificates.

    TLS is spoken where the settings name a `cert_path`, where the address is https, or where DOCKER_TLS_VERIFY is not
    empty; DOCKER_CERT_PATH counts in the last two cases, as with docker's client.

    Raises:
        ConfigurationError: no address that this backend can use, or certificates that cannot be read.
    """
    text = settings.host or environment.get("DOCKER_HOST") or _DEFAULT
    scheme, separator, rest = text.partition("://")
    if scheme == "unix" and rest.startswith("/"):
        # The host of the URL only fills the Host header.
        return Address(text, "unix://localhost", socket=rest)
    if not separator or scheme not in {"tcp", "http", "https"}:
        raise ConfigurationError(
            f'cannot reach a Docker engine at "{text}": the address must begin with unix:///, tcp://, http:// or https://',
            _HOST if settings.host else (),
        )
    verify = bool(environment.get("DOCKER_TLS_VERIFY"))
    folder = settings.cert_path
    if not folder and (verify or scheme == "https"):
        folder = environment.get("DOCKER_CERT_PATH", "")
        if not folder and verify:
            folder = str(Path(environment.get("HOME", "/root")) / ".docker")
    secure = scheme == "https" or verify or bool(settings.cert_path)
    return Address(
        text,
        str(_base(text, rest, _HOST if settings.host else (), secure=secure)),
        tls=_context(Path(folder) if folder else None, _CERTIFICATES if settings.cert_path else ()) if secure else None,
    )


def _base(text: str, rest: str, setting: tuple[str, ...], *, secure: bool) -> URL:
    try:
        url = URL(f"{'https' if secure else 'http'}://{rest}")
        port = url.explicit_port
    except ValueError as error:
        raise ConfigurationError(f'"{text}" is no address of a Docker engine: {error}', setting) from error
    if not url.host or url.user or url.path not in {"", "/"} or url.query_string:
        raise ConfigurationError(
            f'"{text}" is no address of a Docker engine: it must be HOST:PORT after the //', setting
        )
    return URL.build(scheme=url.scheme, host=url.host, port=port or (_TLS_PORT if secure else _PLAIN_PORT))


def _context(folder: Path | None, setting: tuple[str, ...]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=_file(folder, "ca.pem"))
        certificate, key = _file(folder, "cert.pem"), _file(folder, "key.pem")
        if certificate and key:
            context.load_cert_chain(certificate, key)
    except UnreadableFile as error:
        raise ConfigurationError(error.text, setting) from error
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"cannot use the certificates (ca.pem, cert.pem, key.pem) in {folder}: {error.strerror or error.reason}"
            if isinstance(error, ssl.SSLError)
            else f"cannot read the certificates in {folder}: {error.strerror}",
            setting,
        ) from error
    if folder is not None and _file(folder, "ca.pem") is None:
        raise ConfigurationError(f"there is no ca.pem in {folder}", setting)
    return context


def _file(folder: Path | None, name: str) -> str | None:
    if folder is None:
        return None
    file = folder / name
    return str(file) if is_there(file) else None
