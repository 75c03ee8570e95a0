"""What this request and this machine know, and nobody may read."""

from __future__ import annotations

import base64
import binascii
import re
import string
from itertools import islice
from typing import TYPE_CHECKING

from criimage.foreign_text import DOOR_LIMIT, halves
from criimage.masking.forms import MASK, mask_forms
from criimage.masking.spellings import SHORTEST_CORE, all_spellings, base64_cores, base64_of, spellings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    class _Credentials(Protocol):
        """As criimage.credentials has them, which knows this package and not the other way round."""

        @property
        def username(self) -> str: ...
        @property
        def password(self) -> str: ...
        @property
        def identity_token(self) -> str: ...
        @property
        def registry_token(self) -> str: ...


__all__ = ["NO_SECRETS", "Secrets"]

_SHORTEST = 4
"""Characters from which on a value is masked wherever it stands, and a part of one where a text is cut."""
_SHORTEST_AT_END = 8
"""The same where a text begins or ends, which may be a cut of somebody else's and mostly is none."""

_MASKED = "\ue08a"
"""Stands for the mark while parts are looked for beside the marks of others; of Unicode's private use."""
_CUT = re.compile(r"\.\.\.|…")
_CUTS_LIMIT = 16
_TRIES = 64

_BASE64_SIGNS = string.ascii_letters + string.digits + "+/-_="
_BASE64 = frozenset(_BASE64_SIGNS)
_ENTRIES_LIMIT = 1000


class Secrets:
    """Values that must not be read by others. Neither `repr` nor `str` shows one.

    Args:
        values: single secrets: passwords, tokens.
        pairs: user name and password, which are also sent as base64 of `user:password`.
    """

    __slots__ = ("_anywhere", "_cores", "_count", "_pairs", "_reach", "_spellings", "_values", "_values_cut")

    def __init__(self, values: Iterable[str] = (), pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = frozenset(pairs)
        self._values = frozenset(value for value in values if value)
        self._count = len(self._pairs) + len(self._values)
        plain = {*self._values, *(password for _, password in self._pairs)}
        joined = {f"{user}:{password}" for user, password in self._pairs if password}
        long = {value for value in plain | joined if len(value) >= _SHORTEST}
        spelled = all_spellings(plain & long)
        encoded = {spelling for value in joined | long for text in base64_of(value) for spelling in spellings(text)}
        # A part of `user:password` is one of the password, or no secret.
        self._values_cut = tuple(spelled | encoded)
        spelled |= all_spellings(joined & long)
        # The longest first: one may be a part of another.
        self._spellings = tuple(sorted((spelled | encoded) - {""}, key=lambda text: (-len(text), text)))
        # What is sent is base64 itself, and may be encoded once more by whoever got it.
        sent = {text for value in joined for text in base64_of(value)}
        self._cores = tuple({core for value in joined | long | sent for core in base64_cores(value)})
        self._reach = max(map(len, (*self._values_cut, *self._cores)), default=0)
        self._anywhere = "\0".join((*self._values_cut, *self._cores))

    @classmethod
    def of(cls, credentials: _Credentials | None) -> Secrets:
        """Return what a request's credentials hold; nothing for None."""
        if credentials is None:
            return NO_SECRETS
        return cls(
            (credentials.identity_token, credentials.registry_token),
            [(credentials.username, credentials.password)] if credentials.username else (),
        )

    @classmethod
    def of_auth_file(cls, document: object) -> Secrets:
        """Return what a parsed auth file (containers-auth.json(5), docker's config.json) holds.

        Whatever is not as it should be in it is passed over: such an entry is not sent either.
        """
        entries = document.get("auths") if isinstance(document, dict) else None
        values: list[str] = []
        pairs: list[tuple[str, str]] = []
        for entry in list(entries.values())[:_ENTRIES_LIMIT] if isinstance(entries, dict) else ():
            if not isinstance(entry, dict):
                continue
            texts = {key.lower(): text for key, text in entry.items() if isinstance(text, str)}
            values += [texts.get(key, "") for key in ("identitytoken", "registrytoken")]
            pairs.append((texts.get("username", ""), texts.get("password", "")))
            pairs.append(_pair(texts.get("auth", "")))
            values.append(texts.get("auth", ""))
        return cls(values, [pair for pair in pairs if pair[1]])

    def __or__(self, other: Secrets) -> Secrets:
        if not other._count:
            return self
        return Secrets(self._values | other._values, self._pairs | other._pairs) if self._count else other

    def mask(self, text: str, limit: int = DOOR_LIMIT) -> str:
        """Return `text` without these values and without anything of a secret's form.

        Args:
            text: of any length.
            limit: how much of it is looked at: of a longer one the middle is left out.
        """
        if not self._count:
            return mask_forms(_joined(halves(text, limit)))
        start, end = (self._without_values(part) for part in halves(text, limit))
        if end:
            # What stood across the cut is a part of it on either side.
            start, end = self._without_begun(start, _SHORTEST), self._without_rest(end, _SHORTEST)
        text = self._without_parts(_joined((start, end)))
        return mask_forms(text.replace(_MASKED, MASK))

    def _without_values(self, text: str) -> str:
        for spelling in self._spellings:
            text = text.replace(spelling, _MASKED)
        for core in self._cores:
            if core in text:
                text = _without_runs(text, core)
        return text

    def _without_parts(self, text: str) -> str:
        """Return `text` without the parts of values that a tool has left beside its own marks, or at its own limit."""
        text = self._without_begun(self._without_rest(text, _SHORTEST_AT_END), _SHORTEST_AT_END)
        for found in reversed([*islice(_CUT.finditer(text), _CUTS_LIMIT)]):
            before, after = text[: found.start()], text[found.end() :]
            text = self._without_begun(before, _SHORTEST) + found[0] + self._without_rest(after, _SHORTEST)
        return text

    def _without_begun(self, text: str, least: int) -> str:
        """Return `text` without the beginning of a value, of `least` characters or more, that it ends with."""
        near = text[-self._reach :]
        if near[-least:] not in self._anywhere:
            return text
        longest = max((_begun(near, value, least) for value in self._values_cut), default=0)
        if any(_begun(near, core, SHORTEST_CORE) for core in self._cores):
            longest = max(longest, len(near) - len(near.rstrip(_BASE64_SIGNS)))
        return text[: len(text) - longest] + _MASKED if longest else text

    def _without_rest(self, text: str, least: int) -> str:
        """Return `text` without the end of a value, of `least` characters or more, that it begins with."""
        near = text[: self._reach]
        if near[:least] not in self._anywhere:
            return text
        longest = max((_rest(near, value, least) for value in self._values_cut), default=0)
        if any(_rest(near, core, SHORTEST_CORE) for core in self._cores):
            longest = max(longest, len(near) - len(near.lstrip(_BASE64_SIGNS)))
        return _MASKED + text[longest:] if longest else text

    def __repr__(self) -> str:
        return f"<Secrets: {self._count}>"


def _without_runs(text: str, core: str) -> str:
    """Return `text` without each run of base64 that contains `core`: its ends would still tell a part."""
    pieces: list[str] = []
    position = 0
    while (found := text.find(core, position)) >= 0:
        begin, end = found, found + len(core)
        while begin > position and text[begin - 1] in _BASE64:
            begin -= 1
        while end < len(text) and text[end] in _BASE64:
            end += 1
        pieces += (text[position:begin], _MASKED)
        position = end
    pieces.append(text[position:])
    return "".join(pieces)


def _joined(parts: tuple[str, str]) -> str:
    return MASK.join(parts) if parts[1] else parts[0]


def _begun(text: str, value: str, least: int) -> int:
    """Return how many characters at the end of `text` begin `value`: `least` or more, else 0.

    A value that repeats itself is not compared for ever: then it is as much as there may be.
    """
    last, found, longest = text[-least:], -1, 0
    if len(last) < least:
        return 0
    for _ in range(_TRIES):
        found = value.find(last, found + 1)
        if not 0 <= found < len(value) - least:
            return longest
        if text.endswith(value[: found + least]):
            longest = found + least
    return min(len(text), len(value))


def _rest(text: str, value: str, least: int) -> int:
    """Return how many characters at the beginning of `text` end `value`; see `_begun`."""
    first, found = text[:least], 0
    if len(first) < least:
        return 0
    for _ in range(_TRIES):
        found = value.find(first, found + 1)
        if found < 0:
            return 0
        if text.startswith(value[found:]):
            return len(value) - found
    return min(len(text), len(value))


def _pair(auth: str) -> tuple[str, str]:
    try:
        user, _, password = base64.b64decode(auth, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return "", ""
    return user.decode("utf-8", "surrogateescape"), password.strip(b"\0").decode("utf-8", "surrogateescape")


NO_SECRETS = Secrets()
