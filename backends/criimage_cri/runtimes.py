"""What is known of runtimes: who answers, and in which ways it differs from the others (relay-and-cri 2)."""

from __future__ import annotations

from dataclasses import dataclass

from criimage.backend import Problem

__all__ = ["UNKNOWN", "Runtime"]


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime as its Version names it.

    Attributes:
        name: `containerd`, `cri-o`, `docker` (which is cri-dockerd) or anything else; empty where it does not say.
        version: as it says.
    """

    name: str = ""
    version: str = ""

    @property
    def prefixed_ids(self) -> bool | None:
        """Whether it writes an ID as `sha256:HEX`, and understands it so; None where that has to be found out."""
        return {"containerd": True, "docker": True, "cri-o": False}.get(self.name)

    @property
    def short_names_are_dockers(self) -> bool:
        """Whether a name without a registry means docker.io; elsewhere the runtime's own configuration decides."""
        return self.name in {"containerd", "docker"}

    @property
    def lists_short_names(self) -> bool:
        """Whether it lists names of docker.io without their registry, as the Docker engine does."""
        return self.name == "docker"

    @property
    def proves_digests(self) -> bool:
        """Whether it asks the registry about a digest that it has already.

        The engine behind cri-dockerd does not: such a pull tells nothing about what the caller may have.
        """
        return self.name != "docker"

    @property
    def stops_pulls(self) -> bool:
        """Whether a pull ends when its caller goes away."""
        return self.name != "docker"

    @property
    def sends_auth(self) -> bool:
        """Whether it reads the field `auth` of an AuthConfig."""
        return self.name != "docker"

    def limits(self) -> tuple[Problem, ...]:
        """Tell what no caller can bring this runtime to do."""
        found = []
        if not self.proves_digests:
            found.append(
                Problem(
                    "cri-dockerd does not ask the registry about a digest that it has: such a pull proves nothing",
                    "such pulls are refused unless allow_unproven_pulls = true; the docker backend asks the registry",
                )
            )
        if not self.stops_pulls:
            found.append(
                Problem(
                    "cri-dockerd goes on with a pull that was cancelled or cut off, and keeps the image",
                    "the docker backend, on the engine's own socket, stops pulls",
                )
            )
        return tuple(found)


UNKNOWN = Runtime()
"""One that has not said who it is."""
