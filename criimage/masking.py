"""What nobody may read, taken out of texts before they go to a client, a log, a metric or a view.

A registry can send back whatever it was sent, in any spelling, and what it says is passed on to whoever asked. So
texts are masked twice:

    by value    what this request and this machine know: passwords, tokens, what auth files hold, as they are, escaped
                for a URL, JSON or HTML, and in base64, also inside of something longer that was encoded as a whole
    by form     what looks like a secret whosever it is: an Authorization value, a bearer token, `user:password@host`,
                the query of a URL, `password=...`, base64 of `user:password`. All that is known of the answers of
                credential helpers, which never pass through us

Values of fewer than four characters are masked only in a secret's place (the forms), or every text would be torn.

A text is cut here, before it is masked: all of this takes time in proportion to its length. Whoever writes it may put a
secret where it is cut, by us or by the tool that passes it on, so a part of one is masked at each such place.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import string
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

from criimage.foreign_text import DOOR_LIMIT, halves

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Protocol

    class _Credentials(Protocol):
        """As criimage.credentials has them, which knows this module and not the other way round."""

        @property
        def username(self) -> str: ...
        @property
        def password(self) -> str: ...
        @property
        def identity_token(self) -> str: ...
        @property
        def registry_token(self) -> str: ...


__all__ = ["MASK", "NO_SECRETS", "Secrets", "mask_forms"]

MASK = "…"
"""Stands where a secret stood."""

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
_TOKEN = frozenset(string.ascii_letters + string.digits + "-_.~+/=%")
_SHORTEST_PAIR = 8
_SHORTEST_CORE = 8
_LONG_TOKEN = 24
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
        spelled = _spelled(plain & long)
        encoded = {spelling for value in joined | long for text in _base64(value) for spelling in _spellings(text)}
        # A part of `user:password` is one of the password, or no secret.
        self._values_cut = tuple(spelled | encoded)
        spelled |= _spelled(joined & long)
        # The longest first: one may be a part of another.
        self._spellings = tuple(sorted((spelled | encoded) - {""}, key=lambda text: (-len(text), text)))
        # What is sent is base64 itself, and may be encoded once more by whoever got it.
        sent = {text for value in joined for text in _base64(value)}
        self._cores = tuple({core for value in joined | long | sent for core in _base64_cores(value)})
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
        if any(_begun(near, core, _SHORTEST_CORE) for core in self._cores):
            longest = max(longest, len(near) - len(near.rstrip(_BASE64_SIGNS)))
        return text[: len(text) - longest] + _MASKED if longest else text

    def _without_rest(self, text: str, least: int) -> str:
        """Return `text` without the end of a value, of `least` characters or more, that it begins with."""
        near = text[: self._reach]
        if near[:least] not in self._anywhere:
            return text
        longest = max((_rest(near, value, least) for value in self._values_cut), default=0)
        if any(_rest(near, core, _SHORTEST_CORE) for core in self._cores):
            longest = max(longest, len(near) - len(near.lstrip(_BASE64_SIGNS)))
        return _MASKED + text[longest:] if longest else text

    def __repr__(self) -> str:
        return f"<Secrets: {self._count}>"


def mask_forms(text: str) -> str:
    """Return `text` without what has a secret's form, whosever it may be."""
    text = _HEADER.sub(_masked_header, text)
    text = _SCHEME.sub(_masked_scheme, text)
    text = _FIELD.sub(_masked_field, text)
    return _WORD.sub(lambda found: _masked_word(found[0]), text)


# -- by value ---------------------------------------------------------------------------------------------------------


def _spelled(values: set[str]) -> set[str]:
    spelled = {spelling for value in values for spelling in _spellings(value)}
    # Escapes for JSON, or for HTML, in a URL.
    return spelled | {quote(spelling, safe="") for spelling in spelled}


def _spellings(value: str) -> Iterator[str]:
    """Yield the ways in which `value` is written in URLs, JSON, Go's quoted texts and HTML."""
    from html import escape  # its table of entities takes 0.3 MiB

    exact = value.encode("utf-8", "surrogateescape")
    shown = exact.decode("utf-8", "replace")
    for text in {value, shown}:
        yield text
        yield escape(text)
        yield escape(text, quote=False)
        for whole in (True, False):
            escaped = json.dumps(text, ensure_ascii=whole)[1:-1]
            yield escaped
            yield json.dumps(escaped)[1:-1]
            # Go's encoder escapes these three, and a log line escapes the whole once more.
            for sign, code in (("&", "\\u0026"), ("<", "\\u003c"), (">", "\\u003e")):
                escaped = escaped.replace(sign, code)
            yield escaped
            yield json.dumps(escaped)[1:-1]
    for text in (
        quote(exact, safe=""),
        quote(exact, safe="/"),
        quote(exact),
        quote_plus(exact),
        _escaped_at_all(exact),
    ):
        yield text
        yield _ESCAPE.sub(lambda found: found[0].lower(), text)
        yield quote(text, safe="")


_ESCAPE = re.compile("%[0-9A-F]{2}")


def _escaped_at_all(exact: bytes) -> str:
    return "".join(f"%{byte:02X}" for byte in exact)


def _base64(value: str) -> Iterator[str]:
    exact = value.encode("utf-8", "surrogateescape")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(exact).decode()
        yield whole
        yield whole.rstrip("=")


def _base64_cores(value: str) -> Iterator[str]:
    """Yield what base64 of anything with `value` in it contains, whatever stands before and behind it."""
    exact = value.encode("utf-8", "surrogateescape")
    for before, lost in ((0, 0), (1, 2), (2, 3)):
        padded = b"\0" * before + exact
        kept = padded[: len(padded) - len(padded) % 3]
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            core = encode(kept).decode()[lost:]
            if len(core) >= _SHORTEST_CORE:
                yield core


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


# -- by form ----------------------------------------------------------------------------------------------------------

# No expression below repeats what another repetition beside it could take: each character is looked at a few times.
_GAP = r"(?:[\s\"':=\\\[]|%20|%22|%3[aAdD]|\+){1,8}"
_HEADER = re.compile(
    rf"\b(?P<name>(?:proxy-)?authorization|x-registry-(?:auth|config))(?P<gap>{_GAP})"
    rf"(?:(?P<scheme>basic|bearer|digest|negotiate)(?:[\s\"'\\]|%20|\+){{1,4}})?(?P<value>[^\s\"'\\,;<>&]{{4,}})",
    re.IGNORECASE,
)
_SCHEME = re.compile(
    r"\b(?P<scheme>basic|bearer)(?P<gap>(?:\s|%20|\+|:){1,4})(?P<value>[A-Za-z0-9+/._~%=-]{4,})", re.IGNORECASE
)
_NAMES = (
    "password|passwd|passphrase|secret|client_secret|token|access_token|refresh_token|id_token|identitytoken"
    "|identity_token|registrytoken|registry_token|auth|apikey|api_key|sig|signature|credential|security-token"
    "|x-amz-signature|x-amz-credential|x-amz-security-token|x-goog-signature|x-goog-credential|key-pair-id"
)
_FIELD = re.compile(
    # `"name": "value"`, its quotes perhaps escaped, or `name=value`, its sign perhaps.
    rf"(?P<head>(?<![A-Za-z0-9])(?:{_NAMES})"
    r"(?:(?:\\{0,3}\"|%22)\s{0,4}(?::|%3[aA])\s{0,4}(?:\\{0,3}\"|%22)|(?:=|%3[dD])(?:\\{0,3}\"|%22)?))"
    r"(?P<value>(?:[^\s\"'\\,;<>&%]++|%(?!22|26))++)",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\s\"'<>`\\]+")
_DIGEST = re.compile(r"[a-z0-9+._-]{1,32}:[0-9a-fA-F]{32,}")


def _masked_header(found: re.Match[str]) -> str:
    # "authorization failed", "authorization: unauthorized": words about it, in plain lower case.
    if not found["scheme"] and not _may_be_token(found["value"]):
        return found[0]
    scheme = f"{found['scheme']} " if found["scheme"] else ""
    return f"{found['name']}{found['gap']}{scheme}{MASK}"


def _masked_scheme(found: re.Match[str]) -> str:
    # "no basic auth credentials" and "bearer token: invalid" are words; `Bearer realm=` says where to ask.
    if not _may_be_token(found["value"]) or found["value"].lower().startswith(("realm=", "error=", "scope=")):
        return found[0]
    return f"{found['scheme']}{found['gap']}{MASK}"


def _masked_field(found: re.Match[str]) -> str:
    return f"{found['head']}{MASK}"


def _may_be_token(text: str) -> bool:
    text = text.rstrip(".:")
    if len(text) >= _LONG_TOKEN or not text.isalpha():
        return True
    return not (text.islower() or text.istitle())


def _masked_word(word: str) -> str:
    if len(word) < _SHORTEST:
        return word
    if "@" in word and ":" in word:
        word = _without_user(word)
    if "?" in word:
        word = _without_query(word)
    if "eyJ" in word:
        word = _without_web_token(word)
    if len(word) >= _SHORTEST_PAIR:
        word = _without_pairs(word)
    return word


def _without_user(word: str) -> str:
    """Return `word` without the user and password before its last `@`, but with the name before a digest."""
    before, _, after = word.rpartition("@")
    if _DIGEST.match(after):
        # `user:password@host/name@sha256:...` may have both.
        before, _, name = before.rpartition("@")
        after = f"{name}@{after}"
        if not before:
            return word
    begin = before.rfind("//")
    if begin >= 0:
        return f"{before[: begin + 2]}{MASK}@{after}"
    # Without a scheme the user begins the word, or follows what a text puts before a name.
    begin = max(before.rfind(sign) for sign in "([{,;=")
    pair = before[begin + 1 :]
    return f"{before[: begin + 1]}{MASK}@{after}" if ":" in pair and after else word


def _without_query(word: str) -> str:
    address, _, query = word.partition("?")
    if "=" not in query:
        return word
    # What ends a URL in a sentence is not a part of it.
    end = query[len(query.rstrip(".,:;)]}")) :]
    return f"{address}?{MASK}{end}"


def _without_web_token(word: str) -> str:
    begin = word.find("eyJ")
    end = begin
    while end < len(word) and word[end] in _TOKEN:
        end += 1
    if "." not in word[begin:end]:
        return word
    return f"{word[:begin]}{MASK}{word[end:]}"


_RUN = re.compile(r"(?:[A-Za-z0-9+/_-]|%2[bBfF])+(?:=|%3[dD]){0,2}")


def _without_pairs(word: str) -> str:
    return _RUN.sub(lambda found: _masked_run(found[0]), word)


def _masked_run(run: str) -> str:
    if _is_pair(run):
        return MASK
    # A slash may be one of base64's own or stand between two parts of a path.
    return "/".join(MASK if _is_pair(part) else part for part in run.split("/")) if "/" in run else run


def _is_pair(run: str) -> bool:
    if len(run) < _SHORTEST_PAIR:
        return False
    plain = run.replace("-", "+").replace("_", "/")
    if "%" in plain:
        for code, sign in (("%2b", "+"), ("%2f", "/"), ("%3d", "=")):
            plain = plain.replace(code, sign).replace(code.upper(), sign)
    plain = plain.rstrip("=")
    try:
        decoded = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    user, colon, password = decoded.partition(b":")
    return bool(colon and user and password) and decoded.isascii() and decoded.decode().isprintable()


NO_SECRETS = Secrets()
