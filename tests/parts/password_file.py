"""One line of an htpasswd file, as registries want it: bcrypt, made by the machine's own libcrypt."""

from __future__ import annotations

import ctypes
import secrets
import string

_ALPHABET = "./" + string.ascii_letters + string.digits


def bcrypt_line(username: str, password: str) -> str:
    """`username:hash`, with the least work that bcrypt allows: this is for tests, which ask often.

    The standard library's `crypt` module would do, but is deprecated and gone from Python 3.13; the C library behind
    it is part of every Debian.

    Raises:
        OSError: the library is missing or knows no bcrypt.
    """
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    # 22 letters hold 132 bits for a salt of 128: the last one has four spare bits, which have to be zero.
    salt = "".join(secrets.choice(_ALPHABET) for _ in range(21)) + secrets.choice(".Oeu")
    hashed: bytes | None = library.crypt(password.encode(), f"$2y$04${salt}".encode())
    if not hashed or not hashed.startswith(b"$2y$"):
        raise OSError("libcrypt.so.1 knows no bcrypt")
    return f"{username}:{hashed.decode()}"
