"""What a CRI runtime tells about itself: its name, its sandbox image, how it pulls."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grpclib.const import Status

from criimage import foreign_json, wire
from criimage.channel import CallError
from criimage.errors import InvalidRequest
from criimage.foreign_text import readable

if TYPE_CHECKING:
    from criimage.channel import Channel

__all__ = ["RuntimeFacts", "ask_image_service", "ask_runtime", "submessages", "text_of"]

_SECONDS = 5.0
_LIMIT = 200
_FIELDS_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """A runtime as it describes itself; what it does not say is empty.

    Attributes:
        name: `containerd`, `cri-o`, `docker` for cri-dockerd, or another.
        version: as it writes it.
        sandbox_image: what its pods begin with.
        pull_mode: how containerd pulls, in a few words.
        pins_its_own: whether it is known to mark its sandbox image as pinned itself.
    """

    name: str = ""
    version: str = ""
    sandbox_image: str = ""
    pull_mode: str = ""
    pins_its_own: bool = False


async def ask_runtime(channel: Channel) -> RuntimeFacts:
    """Ask for Version and for the verbose Status.

    Raises:
        CallError: it does not answer; a runtime that has no such method tells nothing.
    """
    version = await _ask(channel, "RuntimeService", "Version", b"")
    status = await _ask(channel, "RuntimeService", "Status", wire.varint_field(1, 1))
    name, number = text_of(version, 2).lower(), text_of(version, 3)
    config = _config(status)
    sandbox = config.get("sandboxImage")
    is_containerd = name == "containerd"
    mode = _pull_mode(number, config) if is_containerd else ""
    pins = is_containerd and _numbers(number) >= (2, 0)
    return RuntimeFacts(name, number, sandbox if isinstance(sandbox, str) else "", mode, pins)


async def ask_image_service(channel: Channel, method: str, request: bytes) -> bytes | None:
    """Call a method of the runtime's own image service; None where it has no such service.

    Raises:
        CallError: it does not answer, or answers with an error.
    """
    return await _ask(channel, "ImageService", method, request)


async def _ask(channel: Channel, service: str, method: str, request: bytes) -> bytes | None:
    """Call in the newest version of the API that the runtime has."""
    for version in ("v1", "v1alpha2"):
        try:
            return await channel.unary(f"/runtime.{version}.{service}/{method}", request, _SECONDS)
        except CallError as error:
            if error.status is not Status.UNIMPLEMENTED:
                raise
    return None


def submessages(message: bytes | None, wanted: int) -> list[bytes]:
    """Return what stands in a repeated field; nothing of bytes that cannot be decoded."""
    try:
        fields = list(wire.fields(message or b"", _FIELDS_LIMIT))
    except InvalidRequest:
        return []
    return [value for number, _, value in fields if number == wanted and isinstance(value, bytes)]


def text_of(message: bytes | None, wanted: int) -> str:
    """Return the text of a field on one line, empty where there is none."""
    values = submessages(message, wanted)
    return readable(values[-1].decode("utf-8", "replace"), _LIMIT) if values else ""


def _config(status: bytes | None) -> dict[str, Any]:
    """Return the JSON object `config` of a verbose Status, which kubeadm reads too (cri-protocol 3.3)."""
    for entry in submessages(status, 2):
        if text_of(entry, 1) == "config":
            try:
                return foreign_json.parse_object(b"".join(submessages(entry, 2)))
            except ValueError:
                break
    return {}


def _pull_mode(version: str, config: dict[str, Any]) -> str:
    """Tell how a containerd pulls (relay-and-cri 4): since 2.1 by its transfer service, unless it is told otherwise.

    Since 2.0 the configuration of its images is no part of what Status tells (seen on 2.1.9).
    """
    numbers = _numbers(version)
    if numbers < (2, 1):
        return "pulls by itself: registries are configured by config_path, mirrors and auths of its CRI plugin"
    registry = config.get("registry")
    if config.get("useLocalImagePull") is True:
        return "pulls by itself, as use_local_image_pull says"
    if isinstance(registry, dict):
        if any(registry.get(key) for key in ("mirrors", "configs", "auths")):
            return "pulls by itself, because mirrors, configs or auths of its CRI plugin are set"
        return "pulls through its transfer service: registries are configured by config_path"
    return (
        "does not tell how it pulls: through its transfer service, with registries by config_path, unless"
        " use_local_image_pull, mirrors, configs or auths are set; `containerd config dump` shows them"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(digits) for digits in re.findall(r"[0-9]{1,6}", version)[:2])
