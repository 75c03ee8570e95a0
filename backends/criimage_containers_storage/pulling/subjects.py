"""Who has failed, where it is not the registry: auth file, credential helper, token server, proxy, certificate, policy.

skopeo says so where its chain of causes begins. A word that a registry's failures share, such as `503` or `unexpected
end of JSON input`, means something else there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from criimage import errors

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["subject_failure"]

_LIMIT = 200
# `initializing source docker://...: ` of a copy, `Error parsing image name "docker://...": ` of an inspection.
_BEGIN = r"(?:[A-Za-z ]{1,40} docker://\S{1,2000}: |[A-Za-z ]{1,40} \"[^\"]{1,2000}\": )?"
_LOGIN = rf"{_BEGIN}getting username and password: (?:\d+ errors? occurred:\s{{1,8}}\* )?"
_ASKS = rf"{_BEGIN}(?:pinging container registry \S{{1,300}}: )?(?:Get|Head) \"https?://[^\"]{{1,2000}}\": "
_BUSY = ("Service Unavailable", "Bad Gateway", "Gateway Timeout", "Gateway Time-out")


def _auth_file(found: re.Match[str]) -> errors.CriimageError:
    return errors.ConfigurationError(f"the auth file {found['file']} cannot be used: {found['why'].strip()}")


def _entry(_: re.Match[str]) -> errors.CriimageError:
    return errors.ConfigurationError("the auth file's entry for this registry is not valid base64")


def _helper(found: re.Match[str]) -> errors.CriimageError:
    return errors.ConfigurationError(f"the credential helper docker-credential-{found['name']} is not installed")


def _helper_fails(found: re.Match[str]) -> errors.CriimageError:
    # What it has printed may hold anything.
    return errors.ConfigurationError(f"a credential helper of this machine failed: {found['why'].strip()}")


def _token(found: re.Match[str]) -> errors.CriimageError | None:
    code = int(found["code"])
    if code in {401, 403, 429}:
        return None
    kind = errors.RegistryUnavailable if code in {502, 503, 504} else errors.PullError
    return kind(f"the registry's token server answered {code} {found['text']}")


def _no_proxy(found: re.Match[str]) -> errors.CriimageError:
    return errors.RegistryUnavailable(f"the proxy cannot be reached: {found['why']}")


def _proxy(found: re.Match[str]) -> errors.CriimageError:
    kind = errors.RegistryUnavailable if found["text"] in _BUSY else errors.PullError
    return kind(f"the proxy answered: {found['text']}")


def _proxy_login(_: re.Match[str]) -> errors.CriimageError:
    return errors.PullError("the proxy answered: Proxy Authentication Required")


def _expired(_: re.Match[str]) -> errors.CriimageError:
    return errors.PullError("x509: the registry's certificate has expired or is not valid yet; is the clock right?")


def _client_certificate(_: re.Match[str]) -> errors.CriimageError:
    return errors.PullError(
        "tls: the registry wants a client certificate that it knows: *.cert and *.key in certs.d or certs_dir"
    )


def _policy(found: re.Match[str]) -> errors.CriimageError:
    where = f" {found['file']}" if found["file"] else ""
    return errors.ConfigurationError(f"the signature policy{where} cannot be used: {found['why']}")


_TORN = r"(?:unmarshaling JSON at \"[^\"]{1,1000}\": )?"
_FAILED_HELPER = rf"{_LOGIN}error getting credentials - err: "
_TOKEN = rf"{_BEGIN}(?:unable to retrieve auth token|Requesting bearer token): invalid status code from registry "
_WANTS_CERTIFICATE = rf"{_ASKS}remote error: tls: (?:certificate required|bad certificate|unknown certificate)"

_SUBJECTS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], errors.CriimageError | None]], ...] = tuple(
    (re.compile(words), make)
    for words, make in (
        (rf'{_LOGIN}reading JSON file "(?P<file>[^"]{{1,1000}})": {_TORN}(?P<why>.{{1,{_LIMIT}}})', _auth_file),
        (rf"{_LOGIN}illegal base64 data", _entry),
        (rf'{_FAILED_HELPER}exec: "docker-credential-(?P<name>[\w.+-]{{1,100}})": executable file not found', _helper),
        (rf"{_FAILED_HELPER}docker-credential-(?P<name>[\w.+-]{{1,100}}) resolves to executable in current", _helper),
        (rf"{_FAILED_HELPER}(?P<why>[^,`]{{1,{_LIMIT}}})", _helper_fails),
        (rf"{_TOKEN}(?P<code>\d{{3}}) \((?P<text>[^)]{{0,60}})\)", _token),
        (rf"{_ASKS}proxyconnect tcp: (?P<why>.{{1,{_LIMIT}}})", _no_proxy),
        # A refused CONNECT is told by the reason that stands in the proxy's first line, and nothing else.
        (rf"{_ASKS}(?P<text>[A-Z][a-z]{{1,30}}(?:[ -][A-Za-z]{{1,30}}){{0,5}})\Z", _proxy),
        (rf"{_BEGIN}.{{0,400}}\b407 \(?Proxy Authentication Required", _proxy_login),
        (rf"{_ASKS}.{{0,200}}x509: certificate has expired or is not yet valid", _expired),
        (_WANTS_CERTIFICATE, _client_certificate),
        (rf'.{{0,100}}invalid policy in "(?P<file>[^"]{{1,1000}})": (?P<why>.{{1,{_LIMIT}}})', _policy),
        (rf"(?:Error )?[Ll]oading trust policy: (?P<file>)(?P<why>.{{1,{_LIMIT}}})", _policy),
    )
)


def subject_failure(words: str) -> errors.CriimageError | None:
    """Return the failure of whoever is not the registry, without the image's name; None if it is the registry's.

    Args:
        words: skopeo's message, without its mirrors'.
    """
    for pattern, make in _SUBJECTS:
        found = pattern.match(words)
        if found is not None:
            return make(found)
    return None
