"""What calls, starts and memory of containers-storage become as a store grows to ten thousand images.

Real pulls of ten thousand images take the tools hours: each of them writes all records of the store, 16 MB at the end,
several times. A server only reads what they have written, so the records of these stores are written by us, in their
form, with two layers an image of which one is common to all.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from benchmarks.calls import OF_IMAGES, path_and_request
from benchmarks.client import LIST
from benchmarks.processes import resident
from benchmarks.results import Key
from benchmarks.run import in_turn
from containers_storage.written_store import WrittenStore
from parts.criimage_process import criimage, store_config
from parts.store import store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.run import Run
    from parts.store import Store

PART = "growth"
FIRST_LIST = "from the start to the first list"
_MEMORY = "memory after it"
_ROUNDS = 3
_BASE = "b" * 64


def side(images: int) -> str:
    """What a store of this size is called in the results."""
    return f"{images} images"


def growth(run: Run) -> None:
    """Calls in turn at servers on stores of all sizes, and some starts of each."""
    sizes = run.options.written
    with _stores(sizes) as stores:
        for number in range(min(run.options.rounds, _ROUNDS)):
            for size in in_turn(list(sizes), number):
                began = time.monotonic()
                with criimage(store_config(stores[size])) as server:
                    seconds = run.client.first(server.endpoint, LIST, size) - began
                    run.results.add(Key(PART, FIRST_LIST, side(size)), "ms", seconds * 1000)
                    run.results.add(Key(PART, _MEMORY, side(size)), "MiB", resident(server.process.pid))
        with contextlib.ExitStack() as stack:
            places = {size: stack.enter_context(criimage(store_config(stores[size]))).endpoint for size in sizes}
            for size, place in places.items():
                run.client.first(place, LIST, size)
            for number in run.options.numbers:
                for call in OF_IMAGES:
                    path, request = path_and_request(call, _name(1))
                    order = in_turn(list(sizes), number)
                    times = run.client.turns([places[size] for size in order], path, request, run.options.seconds)
                    for size, (p50, _) in zip(order, times, strict=True):
                        if number >= 0:  # the round before the first one warms up
                            run.results.add(Key(PART, call, side(size)), "ms", p50 * 1000)


@contextlib.contextmanager
def _stores(sizes: Sequence[int]) -> Iterator[dict[int, Store]]:
    with contextlib.ExitStack() as stack:
        made = {size: stack.enter_context(store()) for size in sizes}
        for size, one in made.items():
            _write(one, size)
        yield made


def _write(made: Store, size: int) -> None:
    written = WrittenStore(made.root, made.driver)
    written.layers.append(_layer(_BASE, ""))
    for number in range(size):
        layer = f"{number:064x}"
        written.layers.append(_layer(layer, _BASE))
        written.add(_name(number), config={"config": {"User": "1000", "Cmd": ["app"]}}, layer=layer)
    written.write()


def _layer(identity: str, parent: str) -> dict[str, object]:
    digest = f"sha256:{identity}"
    return {
        "id": identity,
        "parent": parent,
        "diff-digest": digest,
        "compressed-diff-digest": digest,
        "diff-size": 2048,
        "compressed-size": 512,
        "created": "2020-01-01T00:00:00Z",
    }


def _name(number: int) -> str:
    return f"registry.example.com/team/app-{number % 50}:v{number}"
