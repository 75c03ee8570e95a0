"""One socket for everything: crictl, critest and raw calls at criimage, with a real containerd behind it."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import threading
import time
import urllib.request
from typing import TYPE_CHECKING

import grpc
import pytest

from criimage import wire
from parts.child import free_port
from parts.clients import critest
from parts.critest_images import FOCUS, UNREACHABLE
from parts.critest_run import run_specs
from parts.one_socket import BUSYBOX, Node, one_socket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

SERVICE = "/runtime.v1.RuntimeService"
SECONDS = 60.0


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with one_socket() as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "node" in request.fixturenames:
        request.getfixturevalue("node").crictl("rmp", "-f", "-a")


def test_the_life_of_a_pod(node: Node) -> None:
    """Pull, run, create, start, list, logs, exec of three kinds, attach, port-forward, stats, stop, remove."""
    assert "RuntimeName:  containerd" in node.crictl("version")
    node.crictl("pull", BUSYBOX)
    pod, file = node.run_pod("life")
    port, local = free_port(), free_port()
    script = f"echo begun; busybox httpd -p {port} -h /etc; while :; do echo again; sleep 0.2; done"
    container = node.run_container(pod, file, script)

    (listed,) = node.json("ps")["containers"]
    assert (listed["id"], listed["state"]) == (container, "CONTAINER_RUNNING")
    assert node.json("inspect", container)["status"]["image"]["image"] == BUSYBOX
    assert node.crictl("logs", "--tail=-1", container).startswith("begun\nagain")
    assert node.crictl("exec", "-s", container, "echo", "in one call") == "in one call"
    assert node.crictl("exec", container, "echo", "streamed") == "streamed"
    terminal = shlex.join(node.command("exec", "-it", container, "sh", "-c", "busybox tty"))
    done = subprocess.run(["script", "-qec", terminal, "/dev/null"], capture_output=True, text=True, check=True)
    assert "/dev/pts/" in done.stdout
    assert "again" in first_line(node.command("attach", container))
    with served(node.command("port-forward", pod, f"{local}:{port}")):
        assert b"root:" in fetched(f"http://127.0.0.1:{local}/passwd")
    assert [one["attributes"]["id"] for one in node.json("stats", container)["stats"]] == [container]
    assert [one["attributes"]["id"] for one in node.json("statsp", pod)["stats"]] == [pod]

    node.crictl("stop", container)
    node.crictl("rm", container)
    node.crictl("stopp", pod)
    node.crictl("rmp", pod)
    assert node.json("pods")["items"] == []
    node.crictl("rmi", BUSYBOX)
    assert BUSYBOX not in node.crictl("images")


def first_line(command: list[str]) -> str:
    """The first line that a command prints; then it is ended."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.kill()
    return line


@contextlib.contextmanager
def served(command: list[str]) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def fetched(address: str) -> bytes:
    """What is at an address, as soon as something is."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 - http, of this machine
                found: bytes = answer.read()
                return found
        except OSError:
            assert time.monotonic() < end, f"nothing at {address}"
            time.sleep(0.05)


Outcome = tuple[object, ...]


def outcome(channel: grpc.Channel, path: str, request: bytes) -> Outcome:
    """All that a client sees of a call: messages, code, text, and metadata before and after; no IDs made for it."""
    call = channel.unary_stream(path, bytes, bytes)(request, timeout=SECONDS, metadata=(("x-bin", b"\0\xff"),))
    messages: list[bytes] = []
    with contextlib.suppress(grpc.RpcError):
        messages.extend(call)
    messages = [re.sub(rb"/exec/[\w-]+", b"/exec/TOKEN", message) for message in messages]
    details = re.sub(r'exec "[0-9a-f]{64}"', "exec ID", call.details() or "")
    return messages, call.code(), details, call.initial_metadata(), call.trailing_metadata()


def in_any_order(found: Outcome) -> Outcome:
    """The same, without the order of the fields of its messages: a map's entries have another one each time."""
    messages, *others = found
    assert isinstance(messages, list)
    return [sorted(wire.fields(message), key=repr) for message in messages], *others


def between(relayed: grpc.Channel, direct: grpc.Channel, path: str, request: bytes) -> tuple[Outcome, Outcome]:
    """What a call comes to relayed, and direct before and after it: at a time at which nothing changed there."""
    before, found, after = (outcome(channel, path, request) for channel in (direct, relayed, direct))
    for _ in range(20):
        if found == after or before == after:
            break
        before, found, after = after, outcome(relayed, path, request), outcome(direct, path, request)
    return found, after


def text(number: int, value: str) -> bytes:
    return wire.text_field(number, value)


def test_calls_of_all_kinds_are_the_same_as_direct(node: Node) -> None:
    """Byte for byte: answers, codes, texts and metadata of more than twenty kinds of call, failures included."""
    node.crictl("pull", BUSYBOX)
    pod, file = node.run_pod("same")
    container = node.run_container(pod, file, "sleep 1000", "same-container")
    calls = [
        ("Version", b""),
        ("Version", text(1, "0.1.0")),
        ("Status", b""),
        ("RuntimeConfig", b""),
        ("ListPodSandbox", b""),
        ("ListPodSandbox", wire.length_delimited(1, text(1, pod))),
        ("PodSandboxStatus", text(1, pod)),
        ("PodSandboxStatus", text(1, "absent")),
        ("ListContainers", b""),
        ("ListContainers", wire.length_delimited(1, text(3, pod))),
        ("ContainerStatus", text(1, container)),
        ("ContainerStatus", text(1, container) + b"\x10\x01"),
        ("ContainerStatus", text(1, "absent")),
        ("ContainerStats", text(1, "absent")),
        ("ExecSync", text(1, container) + text(2, "echo") + text(2, "out")),
        ("ExecSync", text(1, container) + text(2, "no-such-program")),
        ("Exec", text(1, container)),
        ("Attach", text(1, "absent") + b"\x20\x01"),
        ("PortForward", text(1, "absent")),
        ("StartContainer", text(1, container)),
        ("RemoveContainer", text(1, "absent")),
        ("StopPodSandbox", text(1, "absent")),
        ("ReopenContainerLog", text(1, container)),
        ("UpdateContainerResources", text(1, "absent")),
        ("UpdateRuntimeConfig", b""),
        ("GetContainerEvents", b""),
        ("CheckpointPod", b""),
        ("InventedTomorrow", b"anything"),
        ("ListContainers", b"\xff\xff broken"),
    ]
    with grpc.insecure_channel(node.server.endpoint) as relayed, grpc.insecure_channel(node.runtime.endpoint) as direct:
        for method, request in calls:
            found, wanted = between(relayed, direct, f"{SERVICE}/{method}", request)
            assert found == wanted, method
        verbose, wanted = (in_any_order(outcome(one, f"{SERVICE}/Status", b"\x08\x01")) for one in (relayed, direct))
        assert verbose == wanted
        found, wanted = between(relayed, direct, "/runtime.v1alpha2.RuntimeService/ListPodSandbox", b"")
        assert found == wanted


def test_an_environment_that_is_no_text(node: Node) -> None:
    """A value that is no UTF-8, as CRI 1.37 allows, makes the same container as direct (relay-and-cri 1)."""
    node.crictl("pull", BUSYBOX)
    pod, _ = node.run_pod("bytes")
    environment = wire.length_delimited(6, text(1, "K") + wire.length_delimited(2, b"\xff\xfe"))
    found = []
    for name, endpoint in (("relayed", node.server.endpoint), ("direct", node.runtime.endpoint)):
        sandbox = wire.length_delimited(1, text(1, "bytes") + text(2, "uid-bytes") + text(3, "default"))
        config = wire.length_delimited(1, text(1, name)) + wire.length_delimited(2, text(1, BUSYBOX))
        request = text(1, pod) + wire.length_delimited(2, config + text(3, "sh") + environment)
        with grpc.insecure_channel(endpoint) as channel:
            call = channel.unary_unary(f"{SERVICE}/CreateContainer", bytes, bytes)
            made = call(request + wire.length_delimited(3, sandbox), timeout=SECONDS)
        (container,) = [value for _, _, value in wire.fields(made) if isinstance(value, bytes)]
        found.append(node.json("inspect", container.decode())["info"]["config"]["envs"])

    assert found[0] == found[1]


def test_a_runtime_that_is_killed_under_load() -> None:
    """While containerd is away every call is UNAVAILABLE; when it is back they work again by themselves."""
    with one_socket() as node, grpc.insecure_channel(node.server.endpoint) as channel:
        call = channel.unary_unary(f"{SERVICE}/ListContainers", bytes, bytes)
        codes: list[grpc.StatusCode] = []
        stopping = threading.Event()

        def load() -> None:
            while not stopping.is_set():
                try:
                    call(b"", timeout=SECONDS)
                    codes.append(grpc.StatusCode.OK)
                except grpc.RpcError as error:
                    codes.append(error.code())

        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                wait_for(codes, grpc.StatusCode.OK)
                node.runtime.kill()
                wait_for(codes, grpc.StatusCode.UNAVAILABLE)
                node.server.wait_for_log("runtime")
                node.runtime.start()
                wait_for(codes, grpc.StatusCode.OK)
        finally:
            stopping.set()
            for thread in threads:
                thread.join()

    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}


def wait_for(codes: list[grpc.StatusCode], code: grpc.StatusCode) -> None:
    """Waits until a hundred more calls have ended with a code."""
    start, end = len(codes), time.monotonic() + SECONDS
    while codes[start:].count(code) < 100:
        assert time.monotonic() < end, f"no calls end with {code}"
        time.sleep(0.01)


@pytest.mark.timeout(600)
def test_critests_specs_are_the_same_as_direct(node: Node, tmp_path: Path) -> None:
    """Every spec about images and about the runtime's information ends as it does at containerd itself."""
    program, focus = critest(), f"{FOCUS}|Runtime info"
    (tmp_path / "relayed").mkdir()
    (tmp_path / "direct").mkdir()
    relayed = run_specs(program, node.server.endpoint, tmp_path / "relayed", focus, UNREACHABLE)
    direct = run_specs(program, node.runtime.endpoint, tmp_path / "direct", focus, UNREACHABLE)

    assert {name: state for name, (state, _) in relayed.items()} == {
        name: state for name, (state, _) in direct.items()
    }, [message for _, message in relayed.values() if message]
    assert len(relayed) >= 14
