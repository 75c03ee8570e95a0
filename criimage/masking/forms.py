"""What looks like a secret, whosever it is."""

from __future__ import annotations

import base64
import binascii
import re
import string

__all__ = ["MASK", "mask_forms"]

MASK = "…"
"""Stands where a secret stood."""

_SHORTEST = 4
_SHORTEST_PAIR = 8
_LONG_TOKEN = 24
_TOKEN = frozenset(string.ascii_letters + string.digits + "-_.~+/=%")

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
_RUN = re.compile(r"(?:[A-Za-z0-9+/_-]|%2[bBfF])+(?:=|%3[dD]){0,2}")


def mask_forms(text: str) -> str:
    """Return `text` without what has a secret's form, whosever it may be."""
    text = _HEADER.sub(_masked_header, text)
    text = _SCHEME.sub(_masked_scheme, text)
    text = _FIELD.sub(_masked_field, text)
    return _WORD.sub(lambda found: _masked_word(found[0]), text)


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
