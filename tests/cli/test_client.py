"""The client commands against a running server: both forms of output, and errors a person can read."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.command import COMMAND, SECONDS, at_once, document, fail, run, succeed
from operating.staged import CANARY, DEMO, NAMED, OWNER, PRIVATE, USED, staged_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from parts.criimage_process import Criimage

pytestmark = pytest.mark.usefixtures("endpoint")


@pytest.fixture(autouse=True)
def _empty_afterwards(shared: Criimage) -> Iterator[None]:
    yield
    for image in json.loads(at_once("images", "--output", "json", "--endpoint", shared.endpoint))["images"]:
        at_once("rmi", image["id"], "--endpoint", shared.endpoint)


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def test_pull_prints_what_identifies_the_image() -> None:
    """Design section 7: the table form is the reference alone, fit for `$(...)`; the ID by default (section 4)."""
    ended = run("pull", "example.com/demo")

    assert (ended.returncode, ended.stdout) == (0, f"{DEMO.id}\n")
    assert "Error" not in ended.stderr


def test_pull_as_json() -> None:
    """Design section 7: one document, with nothing else on either output."""
    assert document("pull", "example.com/demo") == {"image_ref": str(DEMO.id)}


def test_images_as_a_table() -> None:
    """Design section 7: a row for each tag, short IDs, sizes for people, and who is pinned."""
    for name in ("demo", "demo:1", "named"):
        at_once("pull", "--quiet", f"example.com/{name}")

    header, *rows = succeed("images").splitlines()

    assert re.split(r" {2,}", header) == ["IMAGE", "TAG", "IMAGE ID", "SIZE", "PINNED"]
    short = DEMO.id.hex[:13]
    assert [row.split() for row in rows] == [
        ["example.com/demo", "1", short, "123MB"],
        ["example.com/demo", "latest", short, "123MB"],
        ["example.com/named", "latest", NAMED.id.hex[:13], "1.02kB", "yes"],
    ]


def test_images_as_json() -> None:
    """Design section 7: one document with plain numbers, and every image once."""
    for name in ("demo", "demo:1", "named"):
        at_once("pull", "-q", f"example.com/{name}")

    images = {image["id"]: image for image in document("images")["images"]}

    assert images == {
        str(DEMO.id): {
            "id": str(DEMO.id),
            "repo_tags": ["example.com/demo:1", "example.com/demo:latest"],
            "repo_digests": [f"example.com/demo@{DEMO.digest}"],
            "size": 123_456_789,
            "pinned": False,
        },
        str(NAMED.id): {
            "id": str(NAMED.id),
            "repo_tags": ["example.com/named:latest"],
            "repo_digests": [f"example.com/named@{NAMED.digest}"],
            "size": 1024,
            "pinned": True,
        },
    }


def test_an_empty_store_is_no_error() -> None:
    """Design section 7: no image is an answer, in both forms."""
    assert succeed("images").split() == ["IMAGE", "TAG", "IMAGE", "ID", "SIZE", "PINNED"]
    assert document("images") == {"images": []}


def test_images_are_filtered() -> None:
    """S15: a name, an ID or the beginning of one."""
    for name in ("demo", "named"):
        at_once("pull", "-q", f"example.com/{name}")

    for pattern in ("example.com/demo", str(DEMO.id), DEMO.id.hex[:12]):
        assert [image["id"] for image in document("images", pattern)["images"]] == [str(DEMO.id)]


def test_inspect_shows_all_there_is() -> None:
    """Design section 7: the status, the user (0 included), annotations, and what is JSON in `info` as JSON."""
    at_once("pull", "-q", "example.com/demo")

    found = document("inspect", DEMO.id.hex[:5])

    assert found == {
        "id": str(DEMO.id),
        "repo_tags": ["example.com/demo:latest"],
        "repo_digests": [f"example.com/demo@{DEMO.digest}"],
        "size": 123_456_789,
        "pinned": False,
        "uid": 0,
        "annotations": {"org.example.note": "a note"},
        "info": {"info": {"imageSpec": {}}},
    }


def test_inspect_as_a_table() -> None:
    """Design section 7: a line for each fact."""
    at_once("pull", "-q", "example.com/named")

    lines = [line.split(maxsplit=1) for line in succeed("inspect", "example.com/named").splitlines()]

    assert ["id", str(NAMED.id)] in lines
    assert ["repo_tags", "example.com/named:latest"] in lines
    assert ["username", "www-data"] in lines


def test_rmi_removes_with_all_names() -> None:
    """Design section 4: by one name, and every name is told."""
    for name in ("demo", "demo:1"):
        at_once("pull", "-q", f"example.com/{name}")

    assert succeed("rmi", "example.com/demo:1").splitlines() == [
        "Removed: example.com/demo:1",
        "Removed: example.com/demo:latest",
        f"Removed: example.com/demo@{DEMO.digest}",
    ]
    assert document("images") == {"images": []}


def test_rmi_goes_on_after_a_failure() -> None:
    """Design section 7: what can be removed is, the rest is told, and the exit code is 1."""
    at_once("pull", "-q", "example.com/demo")

    ended = run("rmi", "example.com/nope", "example.com/demo", "Worse", "--output", "json")

    assert ended.returncode == 1
    found = json.loads(ended.stdout)
    assert [removed["id"] for removed in found["removed"]] == [str(DEMO.id)]
    assert found["errors"][0] == "no such image: example.com/nope"
    assert "must be lowercase" in found["errors"][1]
    assert [line.partition(": ")[0] for line in ended.stderr.splitlines()] == ["Error", "Error"]


def test_rmi_of_an_image_in_use_is_refused() -> None:
    """R9: the reason is told, and the image stays."""
    with staged_server() as server:
        there = ("--endpoint", server.endpoint)
        at_once("pull", "-q", "example.com/used", *there)

        assert "used by a container" in fail("rmi", "example.com/used", *there, code=1)
        assert document("inspect", USED.id.hex, *there)["repo_tags"] == ["example.com/used:latest"]


def test_fsinfo_in_both_forms() -> None:
    """Design section 7: plain numbers for programs, units for people."""
    at_once("pull", "-q", "example.com/demo")

    for found in document("fsinfo").values():
        assert [type(value) for value in found[0].values()] == [str, int, int, int]
        assert found[0]["used_bytes"] >= 123_456_789
        assert Path(found[0]["mountpoint"]).is_dir()
    header, row = succeed("fsinfo").splitlines()
    assert header.split() == ["MOUNTPOINT", "USED", "INODES"]
    assert row.split()[1].endswith("MB")


def test_version_in_both_forms() -> None:
    """Design section 7: what answers at the endpoint."""
    found = document("version")

    assert found["runtime_name"] == "criimage"
    assert found["runtime_api_version"] == "v1"
    assert f"runtime_version      {found['runtime_version']}" in succeed("version").splitlines()


def test_pulls_in_both_forms() -> None:
    """Design section 7: nothing is being pulled; that is an answer too."""
    assert document("pulls") == {"pulls": []}
    assert run("pulls").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pull", "-q", "example.com/nope"], "manifest unknown: example.com/nope:latest"),
        (["pull", "-q", "example.com/private"], "unauthorized: example.com/private:latest"),
        (["pull", "-q", "example.com/faulty"], "internal error, the log of the image service says more"),
        (["pull", "Camel"], 'invalid reference "Camel": repository name must be lowercase'),
        (["pull", "0" * 64], f"cannot parse an image ID as a name: {'0' * 64}"),
        (["pull", ""], "no image specified"),
        (["inspect", "example.com/nope"], "no such image: example.com/nope"),
        (["inspect", "CAFE"], "no such image: CAFE"),
        (["inspect", "a\n\x1b[2Jb"], r'invalid reference "a\n\x1b[2Jb": the repository name is not valid'),
        (["rmi", "example.com/nope"], "no such image: example.com/nope"),
        (["images", "[?"], None),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(arguments: list[str], told: str | None) -> None:
    """Design section 7: exit code 1 and one line that says why, in the server's own words."""
    if told is None:
        assert document(*arguments) == {"images": []}
    else:
        assert fail(*arguments, code=1) == told


@pytest.mark.parametrize(
    "command", [["images"], ["pull", "x"], ["inspect", "x"], ["rmi", "x"], ["fsinfo"], ["version"], ["pulls"]]
)
def test_nobody_at_the_socket_is_told_in_a_line(tmp_path: Path, command: list[str]) -> None:
    """Design section 7: no traceback where the server is not running, but its path."""
    line = fail(*command, "--endpoint", f"unix://{tmp_path}/none.sock", code=1)

    assert line.startswith(f"cannot reach {tmp_path}/none.sock: No such file or directory; is criimage running?")
    assert "systemctl start criimage" in line
    assert "--endpoint" in line


def test_a_stale_socket_is_told_in_a_line(tmp_path: Path) -> None:
    """Design section 7: a socket file whose server has died."""
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "stale.sock"))

    line = fail("images", "--endpoint", f"unix://{tmp_path}/stale.sock", code=1)

    assert line.startswith(f"cannot reach {tmp_path}/stale.sock: Connection refused; nobody listens on it: start it")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 64])
def test_something_else_at_the_socket_is_told_in_a_line(tmp_path: Path, said: bytes) -> None:
    """Design section 7: an endpoint that speaks no gRPC, such as an engine's API socket."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "other.sock"))
        other.listen()

        def answer() -> None:
            client, _ = other.accept()
            with client:
                client.recv(1024)
                client.sendall(said)

        answering = threading.Thread(target=answer)
        answering.start()
        line = fail("images", "--endpoint", f"unix://{tmp_path}/other.sock", code=1)
        answering.join()

    assert line.startswith(f"cannot reach {tmp_path}/other.sock: ")


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:1", "relative.sock", "unix://relative", "", "unix:///" + "x" * 200, "fd://"]
)
def test_a_bad_endpoint_is_a_usage_error(endpoint: str) -> None:
    """Design section 7: exit code 2, and the form that is expected."""
    line = fail("images", "--endpoint", endpoint, code=2)

    assert "unix:///path" in line or "longer than 107 bytes" in line


def test_a_server_that_goes_away_is_told_in_a_line() -> None:
    """Design section 7: killed in the middle of a pull; the client ends with code 1 and without a traceback."""
    with staged_server() as server:
        arguments = [*COMMAND, "pull", "--quiet", "example.com/stalled", "--endpoint", server.endpoint]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
            until(lambda: "pull started" in server.log_text(), "the pull has not begun")
            server.process.kill()
            output, errors = client.communicate(timeout=SECONDS)

    assert (client.returncode, output) == (1, "")
    assert errors.splitlines() == [f"Error: lost the connection to {server.socket}: the peer closed the connection"]


@pytest.mark.parametrize("before", [True, False])
def test_a_pull_is_shown_and_cancelled(before: bool) -> None:
    """Design section 7: `pulls` shows what is under way, `pulls cancel` ends it, wherever the options stand."""
    with staged_server() as server:
        there = ("--endpoint", server.endpoint)
        arguments = [*COMMAND, "pull", "-q", "example.com/stalled", *there]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
            until(lambda: "pull started" in server.log_text(), "the pull has not begun")
            (found,) = document("pulls", *there)["pulls"]
            row = succeed("pulls", *there)
            options, behind = (there, ()) if before else ((), there)
            assert succeed("pulls", *options, "cancel", found["id"], *behind) == f"Cancelled: {found['id']}\n"
            _, errors = client.communicate(timeout=SECONDS)
        assert "cancelled" not in fail("pulls", "cancel", found["id"], *there, code=1).lower()

    assert (found["reference"], found["bytes_done"], found["bytes_total"]) == ("example.com/stalled", 0, 1024)
    assert found["reference"] in row
    assert client.returncode == 1
    assert errors == "Error: cancelled by the operator: example.com/stalled\n"


def test_an_interrupted_pull_is_stopped_at_the_server() -> None:
    """P13: Ctrl-C ends the client without a traceback, and the pull that nobody waits for."""
    with staged_server() as server:
        arguments = [*COMMAND, "pull", "example.com/stalled", "--endpoint", server.endpoint]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
            until(lambda: "pull started" in server.log_text(), "the pull has not begun")
            client.send_signal(signal.SIGINT)
            _, errors = client.communicate(timeout=SECONDS)
        until(lambda: "nobody waits for the pull any more" in server.log_text(), "the pull goes on")

    assert client.returncode == 1
    assert errors.splitlines()[-1] == "Aborted!"
    assert "Traceback" not in errors


def test_the_password_comes_from_standard_input() -> None:
    """T12: the first line, without its end, is the password."""
    command = ["pull", "example.com/private", "--username", OWNER.username, "--password-stdin"]

    assert document(*command, given=f"{OWNER.password}\r\nmore\n") == {"image_ref": str(PRIVATE.id)}
    assert document(*command, given=OWNER.password) == {"image_ref": str(PRIVATE.id)}
    assert "unauthorized" in fail(*command, "-q", given="wrong\n", code=1)
    assert "unauthorized" in fail(*command, "-q", given="", code=1)


def test_the_password_is_asked_for_and_not_shown() -> None:
    """T12: on a terminal it is typed unseen, and stands neither in the arguments nor in the environment."""
    with staged_server() as server:
        command = ["pull", "example.com/stalled", "--username", OWNER.username, "--endpoint", server.endpoint]
        child, terminal = pty.fork()
        if not child:
            os.execv(COMMAND[0], [*COMMAND, *command])  # noqa: S606 - on a terminal of its own
        shown = b""
        while b"Password: " not in shown:
            shown += os.read(terminal, 1024)
        os.write(terminal, f"{OWNER.password}\n".encode())
        until(lambda: "pull started" in server.log_text(), "the pull has not begun")
        visible = b"".join(Path(f"/proc/{child}/{name}").read_bytes() for name in ("cmdline", "environ"))
        os.kill(child, signal.SIGINT)
        shown += _rest(terminal)
        _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 1
    assert OWNER.password.encode() not in visible + shown


def _rest(terminal: int) -> bytes:
    """Everything that is still written to the terminal until its program has ended."""
    read = b""
    while True:
        try:
            part = os.read(terminal, 1024)
        except OSError:  # what Linux says at the end
            part = b""
        if not part:
            os.close(terminal)
            return read
        read += part


def test_no_password_to_ask_for_is_told_in_a_line() -> None:
    """A script is told what to do instead of being asked, and instead of a password that is shown."""
    assert "use --password-stdin" in fail("pull", "example.com/private", "--username", "u", code=2)


def test_there_is_no_option_for_a_password() -> None:
    """T12: whoever lists the processes would read it."""
    assert "no such option" in fail("pull", "x", "--password", CANARY, code=2).lower()
    assert "needs --username" in fail("pull", "x", "--password-stdin", code=2)
