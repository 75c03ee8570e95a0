"""What skopeo says becomes an error by situation."""

from __future__ import annotations

import pytest
import structlog

from criimage import errors
from criimage.masking import Secrets
from criimage_containers_storage.pulling.failures import last_words, pull_failure, store_failure, tidy
from criimage_containers_storage.pulling.process import Outcome

NAME = "127.0.0.1:5000/denied/unauthorized:x509"


def fatal(message: str, code: int = 1) -> Outcome:
    """What skopeo leaves behind when it fails so."""
    quoted = message.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    line = f'time="2026-01-01T00:00:00Z" level=fatal msg="{quoted}"\n'
    return Outcome(code, b"", 'time="2026-01-01T00:00:00Z" level=warning msg="something else"\n' + line)


SOURCE = f"initializing source docker://{NAME}: "
PING = 'pinging container registry 127.0.0.1:5000: Get "https://127.0.0.1:5000/v2/": '

CONFIGURATION = errors.ConfigurationError
TUNED = (
    "writing blob: happened during read: Reading blob body failed (unexpected EOF), reconnecting failed "
    "(heuristic tuning data: last retry 0, current offset 50000; 503.4 ms total, 429 ms since progress): EOF"
)
TABLE = [
    (SOURCE + f"reading manifest x509 in {NAME[:-5]}: manifest unknown: manifest unknown", errors.RemoteImageMissing),
    (SOURCE + "unable to retrieve auth token: invalid username/password: unauthorized", errors.AccessDenied),
    (SOURCE + f"reading manifest x509 in {NAME[:-5]}: unauthorized: authentication required", errors.AccessDenied),
    (SOURCE + "Requesting bearer token: invalid status code from registry 403 (Forbidden)", errors.AccessDenied),
    (SOURCE + "reading manifest a in b: denied: requested access to the resource is denied", errors.AccessDenied),
    (SOURCE + PING + "dial tcp 127.0.0.1:5000: connect: connection refused", errors.RegistryUnavailable),
    (SOURCE + PING + "dial tcp: lookup denied.invalid on 1.1.1.1:53: no such host", errors.RegistryUnavailable),
    (SOURCE + PING + "dial tcp 10.0.0.1:443: i/o timeout", errors.RegistryUnavailable),
    (SOURCE + "received unexpected HTTP status: 503 Service Unavailable", errors.RegistryUnavailable),
    (SOURCE + "received unexpected HTTP status: 502 Bad Gateway", errors.RegistryUnavailable),
    (SOURCE + 'StatusCode: 504, "<html>..."', errors.RegistryUnavailable),
    (SOURCE + "received unexpected HTTP status: 500 Internal Server Error", errors.PullError),
    (SOURCE + PING + "http: server gave HTTP response to HTTPS client", errors.PullError),
    (SOURCE + PING + "x509: certificate signed by unknown authority", errors.PullError),
    (SOURCE + PING + "tls: failed to verify certificate: x509: certificate has expired", errors.PullError),
    (SOURCE + "reading manifest a in b: toomanyrequests: slow down", errors.RateLimited),
    ('writing blob: storing blob to file "/t/storage1/2": happened during read: unexpected EOF', errors.ContentInvalid),
    (TUNED, errors.ContentInvalid),
    ("copying system image: writing blob: layer: flate: corrupt input before offset 5", errors.ContentInvalid),
    ("Manifest does not match provided manifest digest sha256:0", errors.ContentInvalid),
    ("choosing image: no image found in image index for architecture amd64, variant", errors.PlatformMissing),
    ("choosing image: no image found in manifest list for architecture amd64", errors.PlatformMissing),
    ('storing blob to file "/t/storage1/2": write /t/storage1/2: no space left on device', errors.StorageFull),
    ("writing blob: ApplyLayer stdout:  stderr: no space left on device exit status 1", errors.StorageFull),
    (SOURCE + "registry 127.0.0.1:5000 is blocked in /etc/containers/registries.conf", errors.PullError),
    ("Source image rejected: Running image docker://x is rejected by policy.", errors.SignatureRejected),
    ("Source image rejected: A signature was required, but no signature exists", errors.SignatureRejected),
    ("Error loading trust policy: open /x/policy.json: no such file or directory", errors.ConfigurationError),
    ('invalid policy in "/x/policy.json": Unknown key "keyPaths"', errors.ConfigurationError),
    (SOURCE + 'getting username and password: reading JSON file "/a": unexpected end of JSON input', CONFIGURATION),
    (SOURCE + "getting username and password: error getting credentials - err: exit status 1, out: ``", CONFIGURATION),
    (SOURCE + "Requesting bearer token: invalid status code from registry 404 (Not Found)", errors.PullError),
    (SOURCE + "Requesting bearer token: invalid status code from registry 503 (Busy)", errors.RegistryUnavailable),
    (SOURCE + PING + "Proxy Authentication Required", errors.PullError),
    (SOURCE + PING + "Bad Gateway", errors.RegistryUnavailable),
    (SOURCE + PING + "proxyconnect tcp: dial tcp 10.0.0.1:3128: i/o timeout", errors.RegistryUnavailable),
    (SOURCE + PING + "remote error: tls: certificate required", errors.PullError),
    ('unsupported image-specific operation on artifact with type "x"', errors.ContentInvalid),
]


@pytest.mark.parametrize(("message", "kind"), TABLE)
def test_situations(message: str, kind: type[errors.CriimageError]) -> None:
    """Every row of the table has its kind, though the names in it spell other situations (section 8, E2-E5)."""
    error = pull_failure(fatal(message), NAME)
    assert type(error) is kind
    assert NAME in error.text


@pytest.mark.parametrize("message", [message for message, _ in TABLE])
def test_texts_are_stable(message: str) -> None:
    """The same situation gives the same text whatever path and port it happened with (design section 4)."""
    varied = message.replace("/t/storage1/2", "/t/storage999/7")
    assert pull_failure(fatal(message), NAME).text == pull_failure(fatal(varied), NAME).text


def test_the_registry_itself_decides_not_its_mirrors() -> None:
    """With mirrors the last error counts (E4)."""
    words = (
        "initializing source docker://a.io/x:1: (Mirrors also failed: [m.io/x:1: reading manifest 1 in m.io/x: "
        "unauthorized: authentication required]): a.io/x:1: reading manifest 1 in a.io/x: manifest unknown"
    )
    assert isinstance(pull_failure(fatal(words), "a.io/x:1"), errors.RemoteImageMissing)


def test_what_mirrors_said_is_told_as_well() -> None:
    """Each mirror's cause stands behind the registry's own; of a blocked one the last mirror's kind counts (E4, C5)."""
    mirrors = (
        "initializing source docker://a.io/x:1: (Mirrors also failed: [m.io:5/x:1: reading manifest 1 in m.io/x: "
        "manifest unknown]\n[n.io/x:1: pinging container registry n.io: connection refused]): a.io/x:1: "
    )
    told = "(mirror m.io:5/x:1: manifest unknown; mirror n.io/x:1: connection refused)"
    down = pull_failure(fatal(mirrors + "registry a.io is blocked in /etc/x or /etc/y"), "a.io/x:1")
    assert type(down) is errors.RegistryUnavailable
    assert down.text == f"the registry is blocked by the machine's registries.conf: a.io/x:1 {told}"
    missing = pull_failure(fatal(mirrors + "reading manifest 1 in a.io/x: manifest unknown"), "a.io/x:1")
    assert type(missing) is errors.RemoteImageMissing
    assert missing.text == f"manifest unknown: a.io/x:1 {told}"


@pytest.mark.parametrize("before", [SOURCE, ""])
def test_what_mirrors_said_stands_nowhere_twice(before: str) -> None:
    """It is taken out of the registry's own words, to the last sign, wherever it stands in them (E4)."""
    words = f"{before}(Mirrors also failed: [m.io/x:1: a strange thing]): a.io/x:1: quite another thing"
    error = pull_failure(fatal(words), "a.io/x:1")
    own = f"cannot pull a.io/x:1: skopeo: {before}a.io/x:1: quite another thing"
    assert error.text == f"{own} (mirror m.io/x:1: cannot pull m.io/x:1: skopeo: a strange thing)"


def test_the_whole_line_is_in_the_log_masked() -> None:
    """At debug, mirrors and all; a secret that a registry sent back is not in it (T12)."""
    words = SOURCE + "(Mirrors also failed: [m.io/x:1: hunter2 is wrong]): a.io/x:1: unauthorized"
    with structlog.testing.capture_logs() as logs:
        pull_failure(fatal(words), NAME, secrets=Secrets(["hunter2"]))
    (entry,) = logs
    assert entry["log_level"] == "debug"
    assert "Mirrors also failed: [m.io/x:1: … is wrong]" in entry["said"]


def test_the_second_exit_code_of_newer_tools() -> None:
    """Since 1.16 skopeo says by code 2 that something is not there (V1)."""
    assert isinstance(pull_failure(fatal("something new", 2), NAME), errors.RemoteImageMissing)
    assert not isinstance(pull_failure(Outcome(2, b"", "panic: oops\n"), NAME), errors.RemoteImageMissing)


def test_killed_and_silent() -> None:
    """A tool that was killed is no fault of the registry."""
    error = pull_failure(Outcome(-9, b"", ""), NAME)
    assert isinstance(error, errors.OperationFailed)
    assert "signal 9" in error.text


def test_a_namespace_that_cannot_be_made_is_the_cause() -> None:
    """What comes after it in skopeo's log says only that something has ended, and nothing of what."""
    said = (
        "Error during unshare(CLONE_NEWUSER): Operation not permitted\n"
        'time="2026-01-01T00:00:00Z" level=error msg="parsing PID \\"\\": strconv.Atoi: parsing: invalid syntax"\n'
        'time="2026-01-01T00:00:00Z" level=error msg="(Unable to determine exit status)"\n'
    )
    error = pull_failure(Outcome(1, b"", said), NAME)
    assert error.text == (f"cannot pull {NAME}: skopeo: Error during unshare(CLONE_NEWUSER): Operation not permitted")


def test_a_debug_line_is_nobodys_last_word() -> None:
    """Nor is it the fatal one, whatever it repeats of a registry's words."""
    debug = 'time="2026-01-01T00:00:00Z" level=debug msg="GET said level=fatal msg=denied"\n'
    said = 'time="2026-01-01T00:00:00Z" level=warning msg="slow"\n'
    assert "slow" in pull_failure(Outcome(-9, b"", said + debug), NAME).text
    assert "GET" not in pull_failure(Outcome(-9, b"", said + debug), NAME).text


def test_quotes_come_back() -> None:
    """The log line is unquoted before it is looked at."""
    assert last_words(fatal('Get "http://x/": EOF')) == 'Get "http://x/": EOF'


def test_a_store_that_cannot_be_used_is_told_by_its_cause() -> None:
    """The store stands before it as skopeo writes it, with all options: an operator has another name for it."""
    store = "containers-storage:[btrfs@/srv/my store+/run/c:overlay.a=1,overlay.b=2]"
    said = f'Invalid destination name {store}127.0.0.1:5000/a:1: "/srv/my store/btrfs" is not on a btrfs filesystem'
    error = pull_failure(fatal(said), "127.0.0.1:5000/a:1")
    assert error.text == 'cannot pull 127.0.0.1:5000/a:1: skopeo: "/srv/my store/btrfs" is not on a btrfs filesystem'
    error = pull_failure(fatal(f"nobody knows {store}a:1 here"), "a:1")
    assert error.text == "cannot pull a:1: skopeo: nobody knows the store's a:1 here"


def test_nothing_secret_or_passing_in_an_unknown_text() -> None:
    """Passwords, proxies' users, our folders, ports of ours and HTML are gone from what is passed on (T12, E5)."""
    words = (
        "strange: hunter2 via http://me:pw@proxy:3128/ read tcp 127.0.0.1:43210->10.0.0.1:443 "
        "/var/tmp/criimage-work-ab12/pull-x/storage1/2 <html><body>big</body></html>"
    )
    text = tidy(words, Secrets(["hunter2"]))
    for hidden in ("hunter2", "me:pw", "43210", "criimage-work", "<html", "storage1"):
        assert hidden not in text
    assert text.startswith("strange: … via http://…@proxy:3128/ read tcp 10.0.0.1:443")


def test_in_use() -> None:
    """The container is named in the tools' own words (R5)."""
    words = "image used by abc: image is in use by a container"
    error = store_failure(fatal(words), "removing")
    assert isinstance(error, errors.ImageInUse)
    assert error.text == words


@pytest.mark.parametrize(("code", "kind"), [(1, errors.PullError), (-9, errors.OperationFailed)])
def test_words_that_nobody_knows(code: int, kind: type[errors.CriimageError]) -> None:
    """A failure of its own is one of the pull; that somebody killed it is one of the machine."""
    assert type(pull_failure(fatal("never heard of", code), NAME)) is kind
