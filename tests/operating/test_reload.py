"""A reload that cannot be done, apart from a server."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, cast

import structlog

from criimage.errors import ConfigurationError
from criimage.server import reload
from criimage.server.reload import Reload, differences
from parts.serving import until

if TYPE_CHECKING:
    import pytest

    from criimage.settings import Layers


async def test_settings_that_hang_end_no_later_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is told as failed in time, one thread hangs and not one for each, and when it is over all is as before."""
    monkeypatch.setattr(reload, "READ_SECONDS", 0.01)
    back, begun = threading.Event(), 0

    def reread() -> Layers:
        nonlocal begun
        begun += 1
        back.wait(60)
        raise ConfigurationError("a key is wrong")

    under_test = Reload(cast("Any", None), reread, {})
    with structlog.testing.capture_logs() as logged:
        try:
            for _ in range(3):
                await under_test.reload()
            await until(lambda: begun)
            assert begun == 1
        finally:
            back.set()
        monkeypatch.setattr(reload, "READ_SECONDS", 30.0)
        async with asyncio.timeout(30):
            await under_test.reload()

    told = [line["error"] for line in logged if line["event"].startswith("settings not reloaded")]
    assert told == ["they could not be read within 0 s; does a file system hang?"] * 3 + ["a key is wrong"]


def test_keys_that_differ_are_told_as_they_are_written() -> None:
    """A registry's name stands in quotes, and the empty table it came into is not told beside it (issue 14, A7)."""
    before = {"pulls": {"max_parallel": 1, "registry": {}}}
    after = {"pulls": {"max_parallel": 1, "registry": {"docker.io": {"max_parallel": 2}}}}
    told = ['pulls.registry."docker.io".max_parallel']
    assert list(differences(before, after)) == list(differences(after, before)) == told
    assert list(differences(before, {"pulls": {"max_parallel": 1}})) == ["pulls.registry"]
