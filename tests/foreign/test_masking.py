"""No secret is left in a text, however it is spelled, and no text is torn that holds none."""

from __future__ import annotations

import base64
import html
import json
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest

from criimage import foreign_text
from criimage.credentials import Credentials
from criimage.masking import MASK, NO_SECRETS, Secrets, mask_forms

if TYPE_CHECKING:
    from collections.abc import Callable

PASSWORD = 'p/a+s s&<w>"ö\\rd'  # noqa: S105 - of nobody
TOKEN = "tok-en.1234567890/abc+def=="  # noqa: S105
CREDENTIALS = Credentials("user", PASSWORD, "identity-" + TOKEN, "registry-" + TOKEN)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def spelled(value: str) -> list[str]:
    """Return the ways in which a registry may send a value back."""
    once = json.dumps(value)[1:-1]
    return [
        value,
        quote(value),
        quote(value, safe=""),
        quote_plus(value),
        quote(value, safe="").lower() if value.islower() else quote(value, safe="").replace("%2F", "%2f"),
        "".join(f"%{byte:02x}" for byte in value.encode()),
        quote(quote(value, safe=""), safe=""),
        once,
        json.dumps(once)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        once.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"),
        html.escape(value),
        encoded(value),
        base64.urlsafe_b64encode(value.encode()).decode().rstrip("="),
        quote(encoded(value), safe=""),
        encoded(f"user:{value}"),
        encoded(f'{{"Authorization": "Basic", "password": "{value}"}}'),
        *(encoded("x" * before + value + "y" * after) for before in range(3) for after in range(3)),
    ]


@pytest.mark.parametrize("value", [PASSWORD, "identity-" + TOKEN, "registry-" + TOKEN])
def test_values_in_every_spelling(value: str) -> None:
    """Passwords, identity tokens and registry tokens of the request are masked however they come back (issue 8, 5)."""
    secrets = Secrets.of(CREDENTIALS)
    for spelling in spelled(value):
        masked = secrets.mask(f"said: {spelling}. end")
        assert masked.startswith("said: ")
        assert masked.endswith(" end")
        assert MASK in masked
        assert len(masked) < 25, (spelling, masked)


def test_the_header_of_the_request() -> None:
    """Base64 of `user:password`, as it is sent, is masked with the scheme before it and without."""
    secrets = Secrets.of(Credentials("u", "pässword"))
    pair = encoded("u:pässword")
    for text in (pair, f"Basic {pair}", f"Authorization: Basic {pair}", f'{{"Authorization":["Basic {pair}"]}}'):
        assert "pässword" not in secrets.mask(text)
        assert pair.rstrip("=") not in secrets.mask(text)


def test_the_machine_s_own() -> None:
    """What an auth file holds is known in both of its spellings, its tokens too; what is wrong in it is passed over."""
    document = {
        "auths": {
            "a.io": {"auth": encoded("me:hunter22")},
            "b.io": {"username": "you", "password": "swordfish"},
            "c.io": {"identitytoken": "refresh-me", "registrytoken": "bear-it"},
            "d.io": [],
            "e.io": {"auth": 5},
            "f.io": {"auth": "%%%%"},
        }
    }
    secrets = Secrets.of_auth_file(document)
    for value in ("hunter22", "swordfish", "refresh-me", "bear-it", encoded("me:hunter22"), encoded("you:swordfish")):
        assert secrets.mask(f"x {value} y") == f"x {MASK} y"
    others: tuple[object, ...] = (None, [], {"auths": []}, {"auths": {"x": None}})
    for wrong in others:
        assert Secrets.of_auth_file(wrong).mask("plain") == "plain"


def test_several_at_once() -> None:
    """The request's and the machine's are masked together."""
    both = Secrets.of(Credentials("a", "first-one")) | Secrets(["second-one"])

    assert both.mask("first-one second-one") == f"{MASK} {MASK}"
    assert (NO_SECRETS | both).mask("first-one") == MASK
    assert (both | NO_SECRETS) is both


def test_short_values_only_in_a_secret_s_place() -> None:
    """A password of three letters does not tear other words, and is still masked where passwords stand."""
    secrets = Secrets.of(Credentials("user", "man"))

    assert secrets.mask("manifest unknown") == "manifest unknown"
    for text in (
        "http://user:man@host/x",
        f"Basic {encoded('user:man')}",
        '"password": "man"',
        "password=man",
        "user:man@host",
    ):
        assert "man" not in secrets.mask(text).replace(MASK, "")


FORMS = [
    "Authorization: Basic dXNlcjpodW50ZXIyMg==",
    "authorization=Bearer hunter22.x",
    "Authorization:[Basic hunter22]",
    '"Authorization": "Bearer hunter22"',
    '\\"Authorization\\": \\"Bearer hunter22\\"',
    "Authorization%3A%20Bearer%20hunter22",
    "Proxy-Authorization: Negotiate hunter22",
    "X-Registry-Auth: hunter22",
    "Bearer hunter22",
    "bearer eyJhbGciOiJub25lIn0.hunter22.",
    "eyJhbGciOiJub25lIn0.hunter22.sig",
    "https://user:hunter22@registry.example/x",
    "https://user:hunt@er22@registry.example/x:1",
    "docker://user:hunter22@registry.example/x@sha256:" + "a" * 64,
    "user:hunter22@registry.example:5000/lib/x:1",
    '"user:hunter22@registry.example/x": no',
    "https://cdn.example/blob?X-Amz-Credential=a&X-Amz-Signature=hunter22",
    "https://cdn.example/blob?sig=hunter22.",
    "https%3A%2F%2Fcdn.example%2Fb%3Fx%3D1%26X-Amz-Signature%3Dhunter22",
    '{"token":"hunter22","expires_in":60}',
    '{\\"access_token\\":\\"hunter22\\"}',
    '{"identitytoken" : "hunter22"}',
    "password=hunter22&x=1",
    'password="hunter22"',
    "grant_type=refresh_token&refresh_token=hunter22",
    "dXNlcjpodW50ZXIyMg==",
    "path/dXNlcjpodW50ZXIyMg==",
    "dXNlcjpodW50ZXIyMg%3D%3D",
]


@pytest.mark.parametrize("text", FORMS)
def test_forms(text: str) -> None:
    """What has a secret's form is masked though nobody knows its value: a credential helper's answers, for one."""
    masked = mask_forms(f"said {text} end")

    assert "hunter22" not in masked
    assert "er22" not in masked
    assert "odW50ZXIyM" not in masked
    assert MASK in masked
    assert masked.startswith("said ")
    assert mask_forms(masked) == masked


PLAIN = [
    "no basic auth credentials",
    "unauthorized: authentication required",
    "unable to retrieve auth token: invalid username/password: unauthorized",
    "Requesting bearer token: invalid status code from registry 403 (Forbidden)",
    "authorization failed: no basic auth credentials",
    "insufficient_scope: authorization failed",
    'Bearer realm="https://auth.example/token",service="r"',
    "busybox:1.36@sha256:" + "0123456789abcdef" * 4,
    "reg.example:5000/lib/busybox:1@sha256:" + "0123456789abcdef" * 4,
    "docker.io/library/busybox@sha256:" + "0123456789abcdef" * 4,
    'Get "https://registry.example:5000/v2/": dial tcp 10.0.0.1:5000: connect: connection refused',
    "x509: certificate signed by unknown authority",
    "server gave HTTP response to HTTPS client; is the registry to be marked insecure in registries.conf?",
    "manifest for registry.example/kubernetes/kube-controller-manager:v1.36.0 not found",
    "failed to resolve reference: unexpected status from HEAD request to http://r/v2/a/manifests/1: 502 Bad Gateway",
    "writing blob: storing blob to file: no space left on device",
    "the signature policy cannot be used: signature was required",
    "someone@example.com",
]


@pytest.mark.parametrize("text", PLAIN)
def test_other_words_stay(text: str) -> None:
    """Texts without a secret stay as they are, or no failure could be told from another."""
    assert Secrets.of(CREDENTIALS).mask(text) == text


LONG = "corridor.Lighthouse/umbrella+semicolon-Typewriter"
_DOOR = foreign_text.DOOR_LIMIT


def _left(masked: str, spelling: str) -> list[str]:
    return [spelling[start : start + 8] for start in range(len(spelling) - 7) if spelling[start : start + 8] in masked]


@pytest.mark.parametrize("spell", [str, encoded, lambda text: quote(text, safe=""), lambda text: encoded("u:" + text)])
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_secret_across_our_cut(spell: Callable[[str], str], side: str) -> None:
    """Wherever the door's cut lies in a secret, nothing of it is left on either side (issue 8, item 5)."""
    secrets = Secrets.of(Credentials("u", LONG))
    spelling = spell(LONG)
    half = (_DOOR - 1) // 2
    for shift in range(1, len(spelling), 3):
        # Spaces become one in the end: what stands at the cut would be shown.
        start, end = " " * (half - shift) + spelling + " ", " " + spelling + " " * (half - shift)
        text = start + "x" * _DOOR if side == "before" else "x" * _DOOR + end
        shown = secrets.mask(text)
        assert len(shown) <= _DOOR
        assert _left(shown, spelling) == [], (shift, side)
        assert not any(f" {spelling[:size]}" in shown for size in range(4, len(spelling))), shift
        assert not any(f"{spelling[-size:]} " in shown for size in range(4, len(spelling))), shift


@pytest.mark.parametrize("spell", [str, encoded, lambda text: quote(text, safe="")])
def test_a_secret_that_a_tool_has_cut(spell: Callable[[str], str]) -> None:
    """What skopeo shows of an answer is fifty bytes and three dots; an engine's answer may end anywhere."""
    secrets = Secrets.of(Credentials("u", LONG))
    spelling = spell(LONG)
    for size in range(4, len(spelling)):
        for text in (
            f"StatusCode: 418, it said {spelling[:size]}...",
            f'StatusCode: 418, "it said {spelling[:size]}…": end',
            f"ended with code 1: …{spelling[-size:]} and so on",
        ):
            masked = secrets.mask(text)
            assert spelling[:4] not in masked, text
            assert spelling[-4:] not in masked, text
    for size in range(8, len(spelling)):
        assert secrets.mask(f"it said {spelling[:size]}").rstrip("=") == f"it said {MASK}"
        assert secrets.mask(f"{spelling[-size:]} it said") == f"{MASK} it said"


def test_what_only_looks_like_a_part_stays() -> None:
    """A user's name before three dots, and a word that a secret begins with in the midst of a text."""
    secrets = Secrets.of(Credentials("somebody", LONG))
    for text in ("no access for somebody...", "the corridor is closed", "see somebody"):
        assert secrets.mask(text) == text


def test_a_part_of_a_secret_that_repeats_itself() -> None:
    """It costs no more than its length, and what may be a part of it is not shown."""
    secrets = Secrets([LONG, "ab" * 4000])
    assert "abab" not in secrets.mask("said " + "ab" * 500 + "... end")
    assert "abab" not in secrets.mask(" " * (_DOOR // 2 - 500) + "ab" * 4000 + "x" * _DOOR)


def test_nothing_is_shown() -> None:
    """Neither `repr` nor `str` shows a value (T12)."""
    secrets = Secrets.of(CREDENTIALS)
    for shown in (repr(secrets), str(secrets), f"{secrets}"):
        assert shown == "<Secrets: 3>"
