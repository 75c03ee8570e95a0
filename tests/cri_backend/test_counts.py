"""Claims: which questions a call asks the runtime, counted instead of timed, so that a regression is seen anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cri_backend.written_runtime import Stored, hexadecimal, written_runtime
from criimage.reference import Pattern
from parts.cri_backend import cri_backend, listed, pull, remove, status

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from criimage_cri.backend import CriBackend

NAME = "reg.example/a:1"
ID = hexadecimal("counted")


async def _list(backend: CriBackend) -> None:
    assert await listed(backend)


async def _filtered(backend: CriBackend) -> None:
    assert await backend.images(Pattern.parse(NAME))


async def _by_name(backend: CriBackend) -> None:
    assert await status(backend, NAME)


async def _by_id(backend: CriBackend) -> None:
    assert await status(backend, ID)


async def _absent(backend: CriBackend) -> None:
    assert await status(backend, "reg.example/none:1") is None


async def _usage(backend: CriBackend) -> None:
    assert (await backend.usage()).images


async def _pull(backend: CriBackend) -> None:
    await pull(backend, NAME)


async def _remove(backend: CriBackend) -> None:
    await remove(backend, NAME)


@pytest.mark.parametrize(
    ("call", "asked"),
    [
        (_list, ["ListImages"]),
        (_filtered, ["ImageStatus"]),
        (_by_name, ["ImageStatus"]),
        (_by_id, ["ImageStatus"]),
        (_absent, ["ImageStatus"]),
        (_usage, ["ImageFsInfo"]),
        (_pull, ["PullImage", "ImageStatus"]),
        (_remove, ["ImageStatus"] * 2 + ["ListContainers", "RemoveImage"] + ["ImageStatus"] * 2),
    ],
)
async def test_what_a_call_asks(
    tmp_path: Path, call: Callable[[CriBackend], Coroutine[Any, Any, None]], asked: list[str]
) -> None:
    """Issue 12.4: one question where the answer is one; a pull's image and a removal's end are looked at."""
    socket = tmp_path / "socket"
    async with written_runtime(socket) as runtime, cri_backend(f"unix://{socket}") as backend:
        image = Stored(f"sha256:{ID}", [NAME])
        runtime.images, runtime.pulls = [image], {NAME: image}
        await listed(backend)
        await status(backend, NAME)
        runtime.server.calls.clear()
        await call(backend)
        assert [one.path.rpartition("/")[2] for one in runtime.server.calls] == asked
