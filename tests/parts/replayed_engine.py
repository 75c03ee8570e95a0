"""An engine that gives the answers it was told to: what real ones do not do when a test wants it. The HTTP is real."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path


class Stream:
    """A body that goes on until it is ended, or its reader has gone.

    Attributes:
        begun: whether somebody reads it.
        left: whether its reader has gone before its end.
    """

    def __init__(self) -> None:
        self.begun, self.left = False, False
        self._said = asyncio.Queue[bytes]()

    def say(self, message: Mapping[str, Any]) -> None:
        """Send one JSON message."""
        self._said.put_nowait(json.dumps(message).encode() + b"\r\n")

    def end(self) -> None:
        """Send nothing more."""
        self._said.put_nowait(b"")

    async def send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send what is said, in chunks; used by `Replay`."""
        self.begun = True
        gone = asyncio.create_task(reader.read(1))
        try:
            while True:
                said = asyncio.create_task(self._said.get())
                await asyncio.wait({gone, said}, return_when=asyncio.FIRST_COMPLETED)
                if not said.done():
                    said.cancel()
                    self.left = True
                    return
                writer.write(f"{len(said.result()):x}\r\n".encode() + said.result() + b"\r\n")
                await writer.drain()
                if not said.result():
                    return
        finally:
            gone.cancel()


class Replay:
    """An engine.

    Attributes:
        answers: status and body by method and path; a body that is neither bytes nor a stream is sent as JSON.
        ends: what has no answer any more once something else has been asked, by that.
        asked: what came.
        headers: what came with each of them, names in small letters.
    """

    def __init__(self, answers: Mapping[str, tuple[int, object]], api: str, date: str) -> None:
        self.answers, self.asked = answers, list[str]()
        self.ends: Mapping[str, str] = {}
        self.headers = list[dict[str, str]]()
        self._always = [f"Api-Version: {api}", *([f"Date: {date}"] if date else [])]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request after the other."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *fields = head.decode().splitlines()
                method, target = first.split()[:2]
                asked = f"{method} {target.partition('?')[0]}"
                named = (field.partition(":") for field in fields if field)
                self.headers.append({name.lower(): value.strip() for name, _, value in named})
                self.asked.append(asked)
                gone = (200, b"OK") if target == "/_ping" else (404, {"message": "gone"})
                code, body = self.answers.get(asked, gone)
                if asked in self.ends:
                    self.answers = {key: answer for key, answer in self.answers.items() if key != self.ends[asked]}
                kind = "text/plain" if target == "/_ping" else "application/json; charset=utf-8"
                lines = [f"HTTP/1.1 {code} X", f"Content-Type: {kind}", *self._always]
                if isinstance(body, Stream):
                    writer.write("\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode())
                    await body.send(reader, writer)
                    return
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                writer.write("\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def replayed(
    folder: Path, answers: Mapping[str, tuple[int, object]], api: str = "1.60", date: str = ""
) -> AsyncIterator[Replay]:
    """Runs one that listens at `docker.sock` in a folder."""
    replay = Replay(answers, api, date)
    server = await asyncio.start_unix_server(replay.serve, folder / "docker.sock")
    try:
        yield replay
    finally:
        server.close()
