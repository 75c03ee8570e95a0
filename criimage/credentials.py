"""Credentials that cannot be printed, and how a client's AuthConfig becomes them (cri-o A1-A5)."""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import Self

from criimage.errors import InvalidRequest
from criimage.reference import registry_host

__all__ = ["Credentials"]


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    r"""What a caller sends to prove who it is; equal values, and only those, may share a pull.

    Texts are the bytes that the client sent, decoded as UTF-8 with `surrogateescape`: encode them the same way to get
    the exact bytes back. Neither `repr`, `str` nor a format of it shows anything but which parts are there.

    Attributes:
        username: never empty unless one of the tokens is set.
        password: may be empty.
        identity_token: an OAuth refresh token, or empty.
        registry_token: a bearer token ready to send, or empty.
        server_address: the registry host the client meant them for, or empty for any.
    """

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""
    server_address: str = ""

    @classmethod
    def from_request(
        cls,
        *,
        username: str = "",
        password: str = "",
        auth: str = "",
        server_address: str = "",
        identity_token: str = "",
        registry_token: str = "",
    ) -> Self | None:
        """Read the fields of a CRI AuthConfig.

        A non-empty `auth` replaces user name and password completely, even by nothing (A1). Without a user name and
        without a token the pull is anonymous, as far as the request goes (A5).

        Returns:
            The credentials, or None where the request carries none that could be sent.

        Raises:
            InvalidRequest: `auth` is not standard base64. The text says no more than that.
        """
        if auth:
            username, password = _decode_auth(auth)
        if not (username or identity_token or registry_token):
            return None
        return cls(username, password if username else "", identity_token, registry_token, server_address)

    def meant_for(self, domain: str) -> bool:
        """Tell whether the client wants these sent to registry `domain`.

        An empty `server_address` means any registry; otherwise its host must be the same, in whatever spelling
        (`registry_host`).
        """
        if not self.server_address:
            return True
        address = self.server_address.partition("://")[2] or self.server_address
        return registry_host(address.partition("/")[0]) == registry_host(domain)

    def __repr__(self) -> str:
        parts = [name for name in self.__slots__ if getattr(self, name)]
        return f"<Credentials with {', '.join(parts) or 'nothing'}>"


def _decode_auth(auth: str) -> tuple[str, str]:
    # Go's decoder skips line ends anywhere and wants complete padding (A2); no colon is no error but no user (A3).
    text = auth.replace("\r", "").replace("\n", "")
    try:
        # strict_mode alone lets excess padding pass.
        decoded = binascii.a2b_base64(text.encode("ascii"), strict_mode=True) if _well_padded(text) else None
    except (binascii.Error, UnicodeEncodeError):
        decoded = None
    if decoded is None:
        # Raised outside the handler: nothing of the text, nor a cause that holds it, may reach a log.
        raise InvalidRequest("the auth field is not valid base64")
    user, colon, password = decoded.partition(b":")
    if not colon:
        return "", ""
    return user.decode("utf-8", "surrogateescape"), password.strip(b"\0").decode("utf-8", "surrogateescape")


def _well_padded(text: str) -> bool:
    return len(text) % 4 == 0 and len(text) - len(text.rstrip("=")) <= 2
