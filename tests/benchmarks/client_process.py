"""A gRPC client in a process of its own, by grpcio: a command in JSON on each line of stdin, its answer on stdout.

`turns` and `rate` make the same call for a while, `each` makes given calls once, `first` waits for the first correct
list of a server that starts.
"""

from __future__ import annotations

import base64
import json
import queue
import socket
import statistics
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from criimage import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_CALL_SECONDS = 600.0
_PAUSE = 0.001
_TURN_CALLS = 10
_TURN_SECONDS = 0.02
_LIST = "/runtime.v1.ImageService/ListImages"

_channels: dict[str, grpc.Channel] = {}


def _channel(endpoint: str) -> grpc.Channel:
    if endpoint not in _channels:
        # A list of ten thousand images is larger than what grpcio takes unasked.
        _channels[endpoint] = grpc.insecure_channel(endpoint, options=[("grpc.max_receive_message_length", -1)])
    return _channels[endpoint]


def _call(endpoint: str, method: str) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
    return _channel(endpoint).unary_unary(method, bytes, bytes)


def _turns(endpoints: list[str], method: str, request: str, seconds: float) -> dict[str, Any]:
    """The same call at several servers in turn, a few at each: median and fastest tenth of the times at each."""
    message = base64.b64decode(request)
    calls = [_call(endpoint, method) for endpoint in endpoints]
    times: list[list[float]] = [[] for _ in endpoints]
    end = time.perf_counter() + seconds * len(endpoints)
    while not times[-1] or time.perf_counter() < end:
        for call, found in zip(calls, times, strict=True):
            slow = time.perf_counter() + _TURN_SECONDS
            for _ in range(_TURN_CALLS):
                _in_turn(call, [message], found)
                if time.perf_counter() > slow:
                    break
    fast = [sorted(found)[len(found) // 10] for found in times]
    return {"p50": [statistics.median(found) for found in times], "fast": fast}


def _rate(endpoint: str, method: str, request: str, in_flight: int, seconds: float) -> dict[str, Any]:
    """The same call again and again: how many were answered, and in which time."""
    message, call = base64.b64decode(request), _call(endpoint, method)
    times: list[float] = []
    began = time.perf_counter()
    end = began + seconds

    def more() -> Iterable[bytes]:
        while time.perf_counter() < end or len(times) < in_flight:
            yield message

    if in_flight == 1:
        _in_turn(call, more(), times)
    else:
        _at_once(call, more(), in_flight, times)
    elapsed = time.perf_counter() - began
    return {"calls": len(times), "elapsed": elapsed}


def _each(endpoint: str, method: str, requests: list[str], in_flight: int) -> dict[str, Any]:
    """Every one of these calls once: the time of all, and the median of the single ones."""
    messages, call = [base64.b64decode(request) for request in requests], _call(endpoint, method)
    times: list[float] = []
    began = time.perf_counter()
    if in_flight == 1:
        _in_turn(call, messages, times)
    else:
        _at_once(call, messages, in_flight, times)
    return {"p50": statistics.median(times), "elapsed": time.perf_counter() - began}


def _in_turn(call: grpc.UnaryUnaryMultiCallable[bytes, bytes], messages: Iterable[bytes], times: list[float]) -> None:
    for message in messages:
        began = time.perf_counter()
        call(message, timeout=_CALL_SECONDS)
        times.append(time.perf_counter() - began)


def _at_once(
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes], messages: Iterable[bytes], in_flight: int, times: list[float]
) -> None:
    answered: queue.SimpleQueue[tuple[float, Any]] = queue.SimpleQueue()
    running = 0
    for message in messages:
        if running == in_flight:
            times.append(_answer(answered))
            running -= 1
        began = time.perf_counter()
        future = call.future(message, timeout=_CALL_SECONDS)
        future.add_done_callback(partial(_note, answered, began))
        running += 1
    times += [_answer(answered) for _ in range(running)]


def _note(answered: queue.SimpleQueue[tuple[float, Any]], began: float, done: object) -> None:
    answered.put((time.perf_counter() - began, done))


def _answer(answered: queue.SimpleQueue[tuple[float, Any]]) -> float:
    seconds, done = answered.get()
    done.result()
    return seconds


def _first(endpoint: str, method: str, images: int, limit: float) -> dict[str, Any]:
    """When a server that is just starting has answered, with this many images if it is a list."""
    end = time.monotonic() + limit
    path = endpoint.removeprefix("unix://")
    while not _listens(path):
        _in_time(end)
        time.sleep(_PAUSE)
    with grpc.insecure_channel(endpoint, options=[("grpc.max_receive_message_length", -1)]) as channel:
        call = channel.unary_unary(method, bytes, bytes)
        # Whoever is slow to begin may still answer with an error, or with fewer than there are.
        while not _correct(call, method, images):
            _in_time(end)
            time.sleep(_PAUSE)
        return {"at": time.monotonic()}


def _correct(call: grpc.UnaryUnaryMultiCallable[bytes, bytes], method: str, images: int) -> bool:
    try:
        answer = call(b"", timeout=_CALL_SECONDS)
    except grpc.RpcError:
        return False
    return method != _LIST or sum(1 for _ in wire.fields(answer)) == images


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def _in_time(end: float) -> None:
    if time.monotonic() > end:
        raise TimeoutError("no correct answer in time")


_COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {"turns": _turns, "rate": _rate, "each": _each, "first": _first}


def main() -> None:
    """Obeys until stdin ends."""
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = _COMMANDS[command.pop("do")](**command)
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
