"""A reload that cannot be done, apart from a server."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, cast

import structlog

from criimage.errors import ConfigurationError
from criimage.server import reload
from criimage.server.reload import Reload
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
