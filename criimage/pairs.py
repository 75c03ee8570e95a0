"""Whether backend and runtime belong together: the one must find in its store what the other pulls (protocol 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from criimage import wire
from criimage.backend import Problem
from criimage.channel import CallError, Channel
from criimage.errors import CriimageError
from criimage.foreign_text import readable
from criimage.runtime_facts import ask_image_service, ask_runtime, submessages, text_of

if TYPE_CHECKING:
    from pathlib import Path

    from criimage.backend import Backend, Image
    from criimage.runtime_facts import RuntimeFacts

__all__ = ["compare_images", "fitting", "look_at_pair"]

_TEXT_LIMIT = 300
_NAMED = 3

_BACKENDS = {"docker": "docker", "cri-o": "containers-storage"}
_NAMES = {"docker": "cri-dockerd", "cri-o": "CRI-O"}
_CRI = 'set backend = "cri" with the runtime\'s endpoint'
_ONE_STORE = {
    "docker": f"let backends.docker.host name the engine that cri-dockerd was started with, or {_CRI}",
    "containers-storage": f"let root, run_root and driver be those of CRI-O's storage, or {_CRI}",
    "cri": "let runtime.endpoint and backends.cri.endpoint name the same runtime, or leave runtime.endpoint out",
}


async def look_at_pair(
    backend: Backend, name: str, runtime: Path, sandbox: str = ""
) -> tuple[list[Problem], list[str]]:
    """Look at a backend and the runtime that is relayed beside it.

    Args:
        backend: open.
        name: of the backend, as users write it.
        runtime: socket of the runtime.
        sandbox: its sandbox image as the settings have it; empty where the runtime is asked.

    Returns:
        what does not fit, and what is worth knowing, a line each.
    """
    async with Channel(runtime) as channel:
        try:
            facts = await ask_runtime(channel)
        except CallError as error:
            text = readable(f"the runtime does not answer: {error.text}", _TEXT_LIMIT)
            return [Problem(text, f"start the runtime, or set runtime.endpoint; it is unix://{runtime}")], []
        problems = [problem for problem in (fitting(name, facts),) if problem is not None]
        if not problems:
            try:
                problems += await _images_differ(backend, _ONE_STORE.get(name, "let both use the same store"), channel)
            except CallError as error:
                text = readable(f"the runtime's images cannot be seen: {error.text}", _TEXT_LIMIT)
                problems.append(Problem(text, "see the runtime's own log"))
            except CriimageError as error:
                problems.append(Problem(f"the backend's images cannot be seen: {error.text}", "see the other findings"))
    return problems, _worth_knowing(facts, runtime, sandbox or facts.sandbox_image)


def fitting(name: str, facts: RuntimeFacts) -> Problem | None:
    """Tell that a backend is not the one for a runtime, by their names."""
    if name not in _BACKENDS.values():
        return None  # any runtime's, or of somebody else, and known to its author only
    wanted = _BACKENDS.get(facts.name, "cri")
    if wanted == name:
        return None
    runtime = _NAMES.get(facts.name, facts.name or "the runtime")
    return Problem(
        f"{runtime} does not look for images where the backend {name} puts them",
        f'set backend = "{wanted}"' + ("" if wanted == "cri" else ', or "cri"'),
    )


def compare_images(ours: tuple[Image, ...], theirs: list[str], remedy: str, *, unseen: list[str]) -> list[Problem]:
    """Compare two lists of images.

    Args:
        ours: the backend's.
        theirs: IDs as the runtime writes them.
        remedy: how both come to one store.
        unseen: of ours, those that the runtime does not find when it is asked for the very image.
    """
    spelled = {identity.removeprefix("sha256:"): identity for identity in theirs}
    common = [image for image in ours if image.id.hex in spelled]
    if not common and theirs and (unseen or not ours):
        return [Problem("the backend and the runtime have different stores: no image of one is in the other", remedy)]
    found = []
    if unseen:
        shown = ", ".join(unseen[:_NAMED]) + (f" and {len(unseen) - _NAMED} more" if len(unseen) > _NAMED else "")
        found.append(Problem(f"the runtime does not find images of the backend: {shown}", remedy))
    other = next((image for image in common if str(image.id) != spelled[image.id.hex]), None)
    if other is not None:
        found.append(
            Problem(
                f"the runtime writes the ID of an image in another way: {spelled[other.id.hex]} for {other.id}",
                "garbage collection would take used images for unused ones: use the backend for this runtime",
            )
        )
    return found


async def _images_differ(backend: Backend, remedy: str, channel: Channel) -> list[Problem]:
    ours = await backend.images()
    answer = await ask_image_service(channel, "ListImages", b"")
    if answer is None:
        return []
    theirs = [text_of(image, 1) for image in submessages(answer, 1)]
    known = {identity.removeprefix("sha256:") for identity in theirs}
    # One that was pulled or removed in this very moment is asked for again.
    still = {image.id for image in await backend.images()}
    absent = [image for image in ours if image.id.hex not in known and image.id in still]
    unseen = [str(next(iter(image.tags), image.id)) for image in absent if not await _finds(channel, image)]
    return compare_images(ours, theirs, remedy, unseen=unseen)


async def _finds(channel: Channel, image: Image) -> bool:
    spec = wire.length_delimited(1, wire.text_field(1, str(image.id)))
    try:
        status = await ask_image_service(channel, "ImageStatus", spec)
    except CallError as error:
        if not error.reached:
            raise
        return False  # CRI-O's word for an ID in a spelling that it does not know
    return bool(submessages(status, 1))


def _worth_knowing(facts: RuntimeFacts, runtime: Path, sandbox: str) -> list[str]:
    name = f"{_NAMES.get(facts.name, facts.name) or 'a runtime without a name'} {facts.version}".rstrip()
    lines = [f"the runtime at unix://{runtime} is {name}"]
    if facts.pull_mode:
        lines.append(f"containerd {facts.pull_mode}")
    if sandbox:
        lines.append(f"its sandbox image is {sandbox}; it is pinned")
    elif facts.pins_its_own:
        lines.append("it does not tell its sandbox image, and marks it as pinned by itself")
    else:
        lines.append("it does not tell its sandbox image: set runtime.sandbox_image, or that image may be collected")
    return lines
