"""The command: what it prints and writes, its exit codes, and Ctrl-C."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from cli.command import COMMAND
from conformance.planted.fault import Sound
from criimage.channel import Channel
from criimage.conformance.client import Client
from parts.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    from criimage.reference import Lookup


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--registry", "127.0.0.1:1"), r"cannot push to the registry 127\.0\.0\.1:1: .*refused"),
        (("--registry", "http://127.0.0.1:5000"), r"--registry: HOST:PORT is wanted"),
        (("--restart", "sh 'restart"), r"--restart: no closing quotation"),
        (("--only", "Z*"), r"--only: Z\* is no number, group or level"),
        (("--only", "list", "--skip", "pul"), r"--skip: pul is no number, group or level"),
        (("--only", "L3", "--skip", "list"), r"no behaviour is selected"),
        (("--json", "/no/such/folder/a.json"), r"/no/such/folder/a\.json: No such file"),
        (("--json", "/" + "x" * 300), r"/x{300}: File name too long"),
    ],
)
async def test_what_cannot_be_run_is_told(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    """Exit code 2 and one error that says what to do; never a traceback."""
    async with serving(tmp_path, Sound()) as server:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("conformance", "--endpoint", f"unix://{server.path}", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, error = await process.communicate()

    assert process.returncode == 2
    assert re.search(told, error.decode())
    assert b"Traceback" not in error


async def test_a_plain_install_is_enough(tmp_path: Path) -> None:
    """Nothing of an extra is needed, though the registry that it brings stands beside the suite for pytest."""
    program = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {"pytest", "pytest_asyncio", "aiodocker", "aiohttp", "opentelemetry"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
from criimage.cli import main
main()
"""
    async with serving(tmp_path, Sound()) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program),
            *("conformance", "--endpoint", f"unix://{server.path}", "--only", "P1", "--only", "L1"),
            *("--html", str(tmp_path / "a.html"), "--junit", str(tmp_path / "a.xml")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        told, _ = await process.communicate()

    assert told.decode().splitlines()[-1] == "2 passed, 0 failed, 0 known, 0 not applicable"
    assert process.returncode == 0


async def test_the_command(tmp_path: Path) -> None:
    """It prints little where all is well, writes the files, and its last line is of one form."""
    async with serving(tmp_path, Sound()) as server:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("conformance", "--endpoint", f"unix://{server.path}", "--only", "list"),
            *(
                "--junit",
                str(tmp_path / "a.xml"),
                "--html",
                str(tmp_path / "a.html"),
                "--json",
                str(tmp_path / "a.json"),
            ),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()

    lines = out.decode().splitlines()
    assert (process.returncode, lines[-1]) == (0, "13 passed, 0 failed, 0 known, 0 not applicable")
    assert len(lines) == 2
    for name in ("a.xml", "a.html", "a.json"):
        assert (tmp_path / name).stat().st_size > 100


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_in_the_command(tmp_path: Path, told: signal.Signals) -> None:
    """A real SIGINT ends it with 2 and an empty store; so does what a CI system sends."""
    backend = Sound()
    async with serving(tmp_path, backend) as server:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *("conformance", "--endpoint", f"unix://{server.path}", "-v"), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(told)
        out, _ = await process.communicate()

        assert process.returncode == 2
        assert b"interrupted" in out
        assert await backend.images() == ()
        async with Channel(server.path) as channel:
            assert await Client(channel).images() == []


async def test_ctrl_c_twice_ends_it_at_once(tmp_path: Path) -> None:
    """Where the clean-up takes too long: the second one says what may be left, and is no traceback."""
    removing = asyncio.Event()

    class Slow(Sound):
        async def remove(self, lookup: Lookup) -> None:
            removing.set()
            await asyncio.Event().wait()

    async with serving(tmp_path, Slow()) as server:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("conformance", "--endpoint", f"unix://{server.path}", "--only", "L*", "-v"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        # Two signals of which none has been heard yet are one; and what the run itself removes is no clean-up.
        first = (await process.stderr.readline()).decode()
        await removing.wait()
        process.send_signal(signal.SIGINT)
        _, error = await process.communicate()

    (second,) = error.decode().splitlines()
    assert process.returncode == 2
    assert first == "interrupted: what was pulled is removed; once more ends it at once\n"
    assert second.endswith("under names with criimage-conformance in them")


async def test_a_report_of_before_stays_until_there_is_a_new_one(tmp_path: Path) -> None:
    """Where the service does not answer, no file is emptied and none is made."""
    old, new = tmp_path / "old.json", tmp_path / "new.html"
    old.write_text("as it was")
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("conformance", "--endpoint", f"unix://{tmp_path}/none", "--json", str(old), "--html", str(new)),
        stderr=asyncio.subprocess.PIPE,
    )
    _, error = await process.communicate()

    assert (process.returncode, error.startswith(b"Error: no CRI service answers")) == (2, True)
    assert old.read_text() == "as it was"
    assert not new.exists()
