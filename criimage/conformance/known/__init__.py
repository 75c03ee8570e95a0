"""Known differences: which behaviours a service is known not to have, and why."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from criimage.conformance.behaviour import collected
from criimage.errors import ConfigurationError
from criimage.foreign_toml import parse_toml
from criimage.settings.faults import Fault, dotted, faults_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KnownDifferences", "read_known", "shipped"]


class _Difference(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    number: str
    why: str


class KnownDifferences(BaseModel):
    """One file.

    Attributes:
        service: which service and version, such as `containerd 1.6`.
        seen: the date of the run that it is from, or `from observations, not run here`.
        difference: number of the behaviour, and the reason.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    service: str
    seen: str
    difference: list[_Difference] = []

    def reasons(self) -> Mapping[str, str]:
        """Return the reason by number."""
        return {one.number: one.why for one in self.difference}


def shipped() -> tuple[str, ...]:
    """Return the names of the files that come with criimage."""
    folder = resources.files(__package__)
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def read_known(name: str) -> KnownDifferences:
    """Read a file of known differences, or one that comes with criimage, by its name.

    Raises:
        ConfigurationError: there is none, or it is not as it should be.
    """
    if name in shipped():
        text = resources.files(__package__).joinpath(f"{name}.toml").read_text("utf-8")
    else:
        try:
            text = Path(name).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigurationError(f"{name}: {reason}; with criimage come: {', '.join(shipped())}") from error
    try:
        table = parse_toml(text)
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from error
    try:
        known = KnownDifferences.model_validate(table)
    except ValidationError as error:
        faults = faults_of(error, table, KnownDifferences, {})
        told = [f"{name}: {dotted(one.key)}: {one.text}{_meant(one)}" for one in faults]
        raise ConfigurationError("\n".join(told)) from error
    unknown = sorted(set(known.reasons()) - {one.number for one in collected()})
    if unknown:
        raise ConfigurationError(f"{name}: there is no behaviour {', '.join(unknown)}")
    return known


def _meant(fault: Fault) -> str:
    return f"; did you mean {dotted(fault.meant)}?" if fault.meant else ""
