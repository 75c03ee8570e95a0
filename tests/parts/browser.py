"""Chromium without a window, led over the pipe of its devtools protocol: what a page looks like to who reads it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from parts.missing import need

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIMIT = 120
"""Seconds for one answer, on a machine with much else to do."""
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # Which root has not; the pages are ours.
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


@dataclass
class Page:
    """The browser's one page.

    Attributes:
        complaints: what was written to its console as an error or thrown by its scripts, and what could not be
            fetched, since the last `goto`.
        version: the browser's name and version.
    """

    _commands: int
    _answers: int
    complaints: list[str] = field(default_factory=list)
    version: str = ""
    _session: str = ""
    _last: int = 0
    _loaded: bool = False
    _unread: bytes = b""

    def attach(self) -> None:
        """Take hold of a new page of the browser."""
        self.version = self.call("Browser.getVersion")["product"].replace("/", " ")
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def goto(self, url: str) -> None:
        """Open an address, and wait until all of it is there."""
        self.complaints.clear()
        self._loaded = False
        self.call("Page.navigate", url=url)
        ends = time.monotonic() + _LIMIT
        while not self._loaded:
            self._take(self._next(ends))

    def look(self, width: int, height: int, scheme: Literal["light", "dark"]) -> None:
        """Make the window so large, and the reader one who likes it light or dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - whatever JSON can say
        """The value of an expression in the page; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def picture(self, *, whole: bool = False) -> bytes:
        """A PNG of what is to be seen, or of the whole page."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    def call(self, method: str, **params: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """One command of the protocol and its answer."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        ends = time.monotonic() + _LIMIT
        while (answer := self._next(ends)).get("id") != self._last:
            self._take(answer)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self, ends: float) -> dict[str, Any]:
        while b"\0" not in self._unread:
            if not select.select([self._answers], [], [], max(0.0, ends - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            read = os.read(self._answers, 1 << 20)
            if not read:
                raise ConnectionError("the browser has ended")
            self._unread += read
        message, _, self._unread = self._unread.partition(b"\0")
        taken: dict[str, Any] = json.loads(message)
        return taken

    def _take(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        match event.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.exceptionThrown":
                thrown = told["exceptionDetails"]
                self.complaints.append(thrown.get("exception", thrown).get("description", thrown["text"])[:300])
            case "Runtime.consoleAPICalled" if told["type"] in {"error", "assert"}:
                self.complaints.append(json.dumps(told["args"])[:300])
            case "Log.entryAdded" if told["entry"]["level"] == "error":
                self.complaints.append(told["entry"]["text"][:300])
            case "Network.loadingFailed" if not told.get("canceled"):
                self.complaints.append(f"not fetched: {told['errorText']}")


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """A browser with one empty page, which ends with the block."""
    need("chromium")
    to_browser, commands = os.pipe()
    answers, from_browser = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        process = subprocess.Popen(
            # The protocol's two pipes are the descriptors 3 and 4.
            ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "-", "chromium", *_OPTIONS,
             f"--user-data-dir={home}/profile"],
            pass_fds=(to_browser, from_browser), env={**os.environ, "HOME": home},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        try:
            page = Page(commands, answers)
            page.attach()
            yield page
        finally:
            # It ends itself once nobody leads it any more.
            os.close(commands)
            os.close(answers)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
