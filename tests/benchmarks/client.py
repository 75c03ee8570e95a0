"""The clients that calls are made with: grpcio, in processes of their own."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from criimage import wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

IMAGES = "/runtime.v1.ImageService"
RUNTIME = "/runtime.v1.RuntimeService"
VERSION = f"{RUNTIME}/Version"
LIST = f"{IMAGES}/ListImages"
STATUS = f"{IMAGES}/ImageStatus"
PULL = f"{IMAGES}/PullImage"
REMOVE = f"{IMAGES}/RemoveImage"

_TESTS = Path(__file__).parent.parent
_FIRST_SECONDS = 60.0


class ClientError(RuntimeError):
    """A call failed."""


def image_request(name: str) -> bytes:
    """What ImageStatus, PullImage and RemoveImage are asked with."""
    return wire.length_delimited(1, wire.text_field(1, name))


@dataclass(frozen=True, slots=True)
class Client:
    """A client process, which keeps its connections."""

    _process: subprocess.Popen[str]

    def send(self, do: str, **arguments: object) -> None:
        """Gives it a command; `receive` has to follow."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """What came of the command.

        Raises:
            ClientError: a call failed.
        """
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline() or '{"error": "the client has ended"}')
        if "error" in answer:
            raise ClientError(answer["error"])
        return answer

    def turns(self, endpoints: Sequence[str], method: str, request: bytes, seconds: float) -> list[tuple[float, float]]:
        """The median time of a call at each of the endpoints and its fastest tenth, in seconds, with one in flight.

        Args:
            endpoints: asked in turn, a few calls each, so that whatever else the machine does meets all of them.
            method: the call's path.
            request: its bytes.
            seconds: for each endpoint.
        """
        message = base64.b64encode(request).decode()
        self.send("turns", endpoints=list(endpoints), method=method, request=message, seconds=seconds)
        answer = self.receive()
        return list(zip(answer["p50"], answer["fast"], strict=True))

    def calls(self, endpoint: str, method: str, request: bytes, seconds: float) -> int:
        """How often a call is answered in a time, in seconds, with one in flight."""
        self.send("rate", **_same(endpoint, method, request, 1, seconds))
        return int(self.receive()["calls"])

    def each(self, endpoint: str, method: str, names: Sequence[str], in_flight: int = 1) -> tuple[float, float]:
        """Calls with each of these images once; returns the seconds of all together and the median of one."""
        requests = [base64.b64encode(image_request(name)).decode() for name in names]
        self.send("each", endpoint=endpoint, method=method, requests=requests, in_flight=in_flight)
        answer = self.receive()
        return float(answer["elapsed"]), float(answer["p50"])

    def first(self, endpoint: str, method: str, images: int = 0) -> float:
        """Waits for the first correct answer of a server that starts; returns the time of `time.monotonic`."""
        self.send("first", endpoint=endpoint, method=method, images=images, limit=_FIRST_SECONDS)
        return float(self.receive()["at"])


def together(clients: Sequence[Client], endpoint: str, method: str, request: bytes, each: int, seconds: float) -> float:
    """Calls that are answered in a second, with `each` in flight from every client."""
    for client in clients:
        client.send("rate", **_same(endpoint, method, request, each, seconds))
    answers = [client.receive() for client in clients]
    return sum(float(answer["calls"]) / float(answer["elapsed"]) for answer in answers)


def _same(endpoint: str, method: str, request: bytes, in_flight: int, seconds: float) -> dict[str, object]:
    return {
        "endpoint": endpoint,
        "method": method,
        "request": base64.b64encode(request).decode(),
        "in_flight": in_flight,
        "seconds": seconds,
    }


@contextlib.contextmanager
def clients(count: int) -> Iterator[list[Client]]:
    """Runs this many client processes until the block is left."""
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.client_process"],
                    cwd=_TESTS,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            # Popen's own end of the block closes the pipes and waits; a client that still calls would go on.
            stack.callback(process.kill)
            made.append(Client(process))
        yield made
