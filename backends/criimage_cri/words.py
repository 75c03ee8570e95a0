"""The runtime's words, fit to be shown: the same failure always has the same text (cri-protocol 2.4)."""

from __future__ import annotations

import re

from criimage.foreign_text import readable, without_paths
from criimage.masking import NO_SECRETS, Secrets

__all__ = ["STORE", "tidy"]

STORE = "the runtime's store"

_LENGTH_LIMIT = 1000
_KINDS = ("RegistryUnavailable: ", "SignatureValidationFailed: ")
# Each takes a character once. Who was asked for an address; the name of an unpacking that was not finished.
_RESOLVER = re.compile(r"(\blookup [^\s]{1,255}) on [^\s:]{1,255}(?::[0-9]{1,5})?:")
_UNPACKING = re.compile(r"\bextract-[0-9]{1,20}-[^\s]{1,20} ")


def tidy(message: str, secrets: Secrets = NO_SECRETS) -> str:
    """Return the runtime's words on one line, without what nobody can use or may read.

    Args:
        message: as it came.
        secrets: never to be seen in the text.
    """
    text = secrets.mask(message)
    text = _UNPACKING.sub("", _RESOLVER.sub(r"\1:", text))
    for kind in _KINDS:
        text = text.replace(kind, "")  # the server puts it in front itself
    return readable(without_paths(text), _LENGTH_LIMIT)
