"""Credentials: what a client's AuthConfig means, byte for byte, and that nothing prints it (cri-o A1-A5)."""

from __future__ import annotations

import base64
import copy
import dataclasses
import io
import logging
import pprint
import re
import traceback
from pathlib import Path

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

import criimage
from criimage.credentials import Credentials
from criimage.errors import InvalidRequest

CANARY = "c4n4ry"
SECRETS = {
    "username": f"{CANARY}-user",
    "password": f"{CANARY}-password",
    "identity_token": f"{CANARY}-identity",
    "registry_token": f"{CANARY}-registry",
    "server_address": f"{CANARY}.example.com",
}


def of_auth(auth: str) -> tuple[str, str] | None:
    """User and password that an `auth` field means, None for an anonymous pull."""
    found = Credentials.from_request(auth=auth)
    return None if found is None else (found.username, found.password)


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        ("dTpw", ("u", "p")),
        ("dTpwAAA=", ("u", "p")),
        ("AHU6AHAA", ("\0u", "p")),
        ("dQ==", None),
        ("dTo=", ("u", "")),
        ("OnA=", None),
        ("dTpw\n", ("u", "p")),
        ("\r\nd\nT\rp\r\nw", ("u", "p")),
        ("dTpwOnc=", ("u", "p:w")),
        ("dTpwAHcAAA==", ("u", "p\0w")),
        ("\n", None),
        # Trailing bits that are not zero: Go takes them.
        ("dTq=", ("u", "")),
        ("dTp=", ("u", "")),
    ],
)
def test_auth_is_decoded_as_cri_o_does(auth: str, expected: tuple[str, str] | None) -> None:
    """A2-A5: standard base64, the first colon splits, NULs leave the password's ends, no user name is anonymous."""
    assert of_auth(auth) == expected


@pytest.mark.parametrize(
    "auth",
    [
        *(
            "dTp",
            "dTpw=",
            "dT-w",
            "!!",
            "dT pw",
            "dTpwYQ==x",
            "dTpwYQ==xxxx",
            "=dTp",
            "d=Tp",
            "dT=w",
            "====",
            "dTpw====",
        ),
        *("dTpw===", "dQ=", "dQ", "dQ=\n", "dT_w", "dTpw\0", "dTpw\t", "d", "d===", "é", "dTpwé===", "\ud800", " "),
        *("dQ==dQ==", "dQ======", "ZA=="[::-1], "dTpwYQ=\n=\nx", "٣" * 4),
    ],
)
def test_what_is_not_base64_is_the_requests_fault(auth: str) -> None:
    """A2, A6: missing or excess padding, data behind it, another alphabet; the text tells nothing of the input."""
    with pytest.raises(InvalidRequest) as caught:
        of_auth(auth)

    assert caught.value.text == "the auth field is not valid base64"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def _go_decode(text: str) -> bytes | None:
    """Base64 as Go's StdEncoding does it, digit by digit: slow, but independent of Python's decoder."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    digits = text.replace("\r", "").replace("\n", "")
    if len(digits) % 4:
        return None
    decoded = b""
    for start in range(0, len(digits), 4):
        group = digits[start : start + 4]
        significant = group.rstrip("=")
        last = start + 4 == len(digits)
        if len(significant) < (2 if last else 4) or any(digit not in alphabet for digit in significant):
            return None
        bits = 0
        for digit in significant:
            bits = bits << 6 | alphabet.index(digit)
        spare = len(significant) * 6 % 8
        decoded += (bits >> spare).to_bytes(len(significant) * 6 // 8, "big")
    return decoded


@settings(max_examples=2000, deadline=None)
@given(st.text(alphabet="dTpw+/=\n\r-A:", max_size=13))
def test_the_decoder_is_gos(auth: str) -> None:
    """A2: what is accepted, and what it decodes to, is the same as in Go for any text of awkward characters."""
    decoded = _go_decode(auth)
    try:
        found = of_auth(auth)
    except InvalidRequest:
        assert decoded is None
        return

    assert decoded is not None or not auth
    user, colon, password = (decoded or b"").partition(b":")
    expected = (user.decode("utf-8", "surrogateescape"), password.strip(b"\0").decode("utf-8", "surrogateescape"))
    assert found == (expected if colon and user else None)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=20).filter(lambda user: b":" not in user), st.binary(max_size=20))
def test_any_bytes_come_through(user: bytes, password: bytes) -> None:
    """A3, A4: user and password keep every byte, but for NULs at the ends of the password."""
    found = Credentials.from_request(auth=base64.b64encode(user + b":" + password).decode())

    assert found is not None
    assert found.username.encode("utf-8", "surrogateescape") == user
    assert found.password.encode("utf-8", "surrogateescape") == password.strip(b"\0")


PAIR = {"username": "a", "password": "b"}


def test_auth_replaces_user_and_password() -> None:
    """A1: a non-empty auth wins completely, even where it decodes to nothing."""
    assert Credentials.from_request(**PAIR, auth="dTpw") == Credentials("u", "p")
    assert Credentials.from_request(**PAIR, auth="dQ==") is None
    assert Credentials.from_request(**PAIR, auth="OnA=") is None


def test_without_auth_the_fields_count() -> None:
    """A1: they are taken as they are, NULs and colons included."""
    found = Credentials.from_request(username="a:b", password="\0c\0")  # noqa: S106 - a made-up one

    assert found == Credentials("a:b", "\0c\0")


@pytest.mark.parametrize("fields", [{}, {"password": "p"}, {"server_address": "a.b"}, {"password": "p", "auth": "\n"}])
def test_without_user_name_and_token_a_pull_is_anonymous(fields: dict[str, str]) -> None:
    """A5: there is nothing to send, so the machine's own files apply."""
    assert Credentials.from_request(**fields) is None


@pytest.mark.parametrize("token", ["identity_token", "registry_token"])
def test_a_token_is_enough(token: str) -> None:
    """Design section 4: tokens are passed on, whatever stands beside them; a password without a user is dropped."""
    found = Credentials.from_request(**{"password": "p", token: "t"})

    assert found == Credentials(**{token: "t"})


@pytest.mark.parametrize(
    ("address", "domain", "expected"),
    [
        ("", "quay.io", True),
        ("quay.io", "quay.io", True),
        ("QUAY.io", "quay.io", True),
        ("https://quay.io/v2/", "quay.io", True),
        ("quay.io/team", "quay.io", True),
        ("https://index.docker.io/v1/", "docker.io", True),
        ("registry-1.docker.io", "docker.io", True),
        ("docker.io", "docker.io", True),
        ("localhost:5000", "localhost:5000", True),
        ("http://[::1]:5000/x", "[::1]:5000", True),
        ("quay.io", "docker.io", False),
        ("https://quay.io:443/v2/", "quay.io", True),
        ("quay.io", "Quay.io:0443", True),
        ("https://index.docker.io:443/v1/", "docker.io", True),
        ("[::1]:5000", "[0:0:0:0:0:0:0:1]:5000", True),
        ("quay.io:80", "quay.io", False),
        ("localhost:5000", "localhost:5001", False),
        ("localhost", "localhost:5000", False),
        ("https://quay.io.evil.example", "quay.io", False),
        ("evil.example/quay.io", "quay.io", False),
        ("evilquay.io", "quay.io", False),
        ("https://", "quay.io", False),
        ("/quay.io", "quay.io", False),
        ("*.io", "quay.io", False),
    ],
)
def test_credentials_are_for_the_host_they_name(address: str, domain: str, expected: bool) -> None:
    """Design section 4: server_address counts by its host alone, in whatever spelling; empty is any."""
    assert Credentials("u", "p", server_address=address).meant_for(domain) is expected


@dataclasses.dataclass(frozen=True)
class _Holder:
    credentials: Credentials | None


WHOLE = Credentials(**SECRETS)

RENDERED = {
    "repr": lambda: repr(WHOLE),
    "str": lambda: str(WHOLE),
    "format": lambda: f"{WHOLE} {WHOLE!r} {WHOLE!s} {WHOLE!a} {WHOLE:}",
    "percent": lambda: "%s %r %a" % (WHOLE, WHOLE, WHOLE),  # noqa: UP031
    "in a dataclass": lambda: repr(_Holder(WHOLE)),
    "in containers": lambda: f"{[WHOLE]} {(WHOLE,)} { {WHOLE: WHOLE} } { {WHOLE} }",
    "pprint": lambda: pprint.pformat({"credentials": [WHOLE, _Holder(WHOLE)]}),
    "a copy": lambda: f"{copy.copy(WHOLE)} {copy.deepcopy(WHOLE)} {dataclasses.replace(WHOLE)}",
    "a wrong attribute": lambda: str(_error_of(lambda: WHOLE.passwort)),  # type: ignore[attr-defined]
    "a frozen field": lambda: str(_error_of(lambda: setattr(WHOLE, "password", CANARY))),
    "vars": lambda: str(_error_of(lambda: vars(WHOLE))),
    "a comparison": lambda: str(_error_of(lambda: WHOLE < WHOLE)),  # type: ignore[operator]
}


def _error_of(action: object) -> BaseException:
    with pytest.raises((AttributeError, TypeError)) as caught:
        action()  # type: ignore[operator]
    return caught.value


@pytest.mark.parametrize("way", RENDERED)
def test_no_way_of_printing_shows_a_secret(way: str) -> None:
    """Design section 4: whatever turns credentials into text says which parts are there and nothing more."""
    assert CANARY not in RENDERED[way]()


def test_the_text_says_which_parts_are_there() -> None:
    """It is enough to debug with: the names of the fields that are set."""
    assert repr(Credentials("u", "p")) == "<Credentials with username, password>"


def _fail_with(credentials: Credentials) -> None:
    holder = _Holder(credentials)
    error = ValueError(holder)
    error.add_note(f"while sending {credentials}")
    raise ExceptionGroup("several", [error, InvalidRequest(f"bad {credentials}")]) from KeyError(credentials)


def _failure() -> BaseException:
    with pytest.raises(ExceptionGroup) as caught:
        _fail_with(WHOLE)
    return caught.value


def test_no_traceback_shows_a_secret() -> None:
    """T12: a group of errors that carry credentials, with causes and notes, renders without them."""
    text = "".join(traceback.format_exception(_failure()))

    assert "several" in text
    assert CANARY not in text


@pytest.mark.parametrize(
    "renderer",
    [
        structlog.processors.JSONRenderer(),
        structlog.processors.LogfmtRenderer(bool_as_flag=False),
        structlog.processors.KeyValueRenderer(),
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ],
)
def test_no_structured_log_shows_a_secret(renderer: structlog.typing.Processor) -> None:
    """T12: as a value, within a value and in an exception, in every form of line."""
    fields = {"event": "x", "credentials": WHOLE, "holder": _Holder(WHOLE), "many": [WHOLE]}
    event = structlog.processors.format_exc_info(None, "error", fields | {"exc_info": _failure()})

    line = str(renderer(logging.getLogger(), "error", event))

    assert "Credentials with" in line
    assert CANARY not in line


def test_no_library_log_shows_a_secret() -> None:
    """T12: the standard logging's arguments and exceptions too."""
    stream = io.StringIO()
    logger = logging.getLogger("criimage.tests.credentials")
    logger.propagate = False
    logger.addHandler(logging.StreamHandler(stream))

    logger.error("failed with %s and %r", WHOLE, _Holder(WHOLE), exc_info=_failure())

    assert "Credentials with" in stream.getvalue()
    assert CANARY not in stream.getvalue()


def test_nothing_takes_credentials_apart() -> None:
    """T12: dataclasses.asdict, astuple and pickle would show the fields; no code of ours calls any of them."""
    code = Path(criimage.__file__).parent
    sources = [*code.rglob("*.py"), *(code.parent / "backends").rglob("*.py")]
    leaky = re.compile(r"\b(asdict|astuple|pickle|__getstate__)\b")

    assert [str(source) for source in sources if leaky.search(source.read_text())] == []


def test_equal_credentials_are_one_key() -> None:
    """P13: only equal ones may share a pull; every field counts."""
    assert Credentials(**SECRETS) == WHOLE
    assert hash(Credentials(**SECRETS)) == hash(WHOLE)
    for name in SECRETS:
        assert dataclasses.replace(WHOLE, **{name: "other"}) != WHOLE
