"""What others wrote, on its way to an operator's terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click import ClickException
from grpclib.const import Status

from criimage.channel import CallError, Channel
from criimage.cli.connection import ask
from criimage.cli.output import document, fields_table, status_fields
from criimage.cri.runtime import v1

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "\x1b]0;gone\x07 \u009b2J\nbücher"
SHOWN = "\\x1b]0;gone\\x07 \\x9b2J\\nbücher"


def test_an_images_author_cannot_talk_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """An image's user is any text at all; in both kinds of field no control character gets through."""
    fields_table({"username": HOSTILE, "annotations": {HOSTILE: HOSTILE}})

    first, *others = capsys.readouterr().out.splitlines()
    assert first == f"username             {SHOWN}"
    assert all(line.isprintable() for line in others)


def test_an_images_author_cannot_crash_the_command() -> None:
    """What is nested too deeply to be read as JSON is shown as the text it is, as what is no JSON is."""
    deep = "[" * 10_000 + "]" * 10_000
    status = v1.ImageStatusResponse(image=v1.Image(id="a"), info={"deep": deep, "plain": "text", "json": "[1]"})

    assert status_fields(status)["info"] == {"deep": deep, "plain": "text", "json": [1]}


async def test_a_registry_cannot_talk_to_the_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor can an error's text, which may quote a registry."""

    async def refuse(*_: object) -> bytes:
        raise CallError(Status.UNKNOWN, HOSTILE)

    monkeypatch.setattr(Channel, "unary", refuse)
    with pytest.raises(ClickException) as caught:
        await ask(Channel(tmp_path), "PullImage", v1.PullImageRequest(), v1.PullImageResponse)

    assert caught.value.message == SHOWN


@pytest.mark.parametrize("answer", [b"\x0a\x02\x0a", b"\x0a\x03\x0a\x01\xff", b"\xff" * 11])
async def test_nonsense_from_the_endpoint_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: bytes
) -> None:
    """Truncated, no text, a number without an end: none of it is a traceback."""

    async def say(*_: object) -> bytes:
        return answer

    monkeypatch.setattr(Channel, "unary", say)
    with pytest.raises(ClickException, match="makes no sense"):
        await ask(Channel(tmp_path), "ListImages", v1.ListImagesRequest(), v1.ListImagesResponse)


async def test_an_argument_that_is_no_text_is_told_in_a_line(tmp_path: Path) -> None:
    """A shell passes any bytes on; Python keeps those that are no UTF-8 as lone surrogates."""
    request = v1.PullImageRequest(image=v1.ImageSpec(image=b"caf\xe9:1".decode("utf-8", "surrogateescape")))

    with pytest.raises(ClickException, match="no UTF-8"):
        await ask(Channel(tmp_path), "PullImage", request, v1.PullImageResponse)


@pytest.mark.parametrize(
    "label", ["[" * 9000 + "]" * 9000, "[" + ",".join(["[" * 60 + "]" * 60] * 150) + "]", "9" * 18_000]
)
def test_what_inspect_prints_is_in_proportion(label: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Issue 14, A6: a label of 18 kB of brackets or digits neither becomes 162 MB nor ends the command."""
    fields = status_fields(v1.ImageStatusResponse(image=v1.Image(id="a" * 64), info={"label": label}))
    for show in (fields_table, document):
        show(fields)
        assert 18_000 < len(capsys.readouterr().out) < 15 * len(label)
