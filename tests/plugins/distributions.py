"""Installed distributions for tests: a folder as pip would leave it, to be put on a process's path."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PLUGIN = """
from contextlib import asynccontextmanager
from pydantic import BaseModel, ConfigDict, SecretStr
from criimage.plugins import Plugin
from criimage.testing.memory import MemoryBackend

class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    colour: str = "red"
    token: SecretStr = SecretStr("")

@asynccontextmanager
async def open_backend(settings):
    yield MemoryBackend()

plugin = Plugin({name!r}, {contract}, Settings, open_backend)
"""


def plugin_source(name: str, contract: int = 1) -> str:
    """A module that offers a working backend under this name."""
    return PLUGIN.replace("{name!r}", repr(name)).replace("{contract}", str(contract))


def install(
    folder: Path,
    distribution: str,
    backends: Mapping[str, str],
    modules: Mapping[str, str] | None = None,
    *,
    version: str = "1.0",
    metadata: bool = True,
) -> None:
    """Install a distribution that offers backends.

    Args:
        folder: to be put on the path.
        distribution: its name.
        backends: where each backend's entry point leads.
        modules: source by module name.
        version: its version.
        metadata: whether it has any; a removal by half leaves none.
    """
    info = folder / f"{distribution}-{version}.dist-info"
    info.mkdir(parents=True)
    if metadata:
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    lines = "".join(f"{name} = {target}\n" for name, target in backends.items())
    (info / "entry_points.txt").write_text(f"[criimage.backends]\n{lines}")
    for module, source in (modules or {}).items():
        (folder / f"{module}.py").write_text(source)
