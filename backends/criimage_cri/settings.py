"""The table `[backends.cri]`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from criimage.duration import Duration
from criimage.endpoint import socket_path
from criimage.errors import ConfigurationError

__all__ = ["Settings"]


class Settings(BaseModel):
    """What an operator can set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str = Field(
        default="unix:///run/containerd/containerd.sock",
        description="Where the runtime listens: unix:///PATH. CRI-O: unix:///run/crio/crio.sock, cri-dockerd: "
        "unix:///run/cri-dockerd.sock.",
    )
    request_timeout: Duration = Field(
        default=119.0,
        gt=0,
        description="How long the runtime may take for anything but a pull.",
    )
    allow_unproven_pulls: bool = Field(
        default=False,
        description="Whether a pull by a digest that is here may succeed where the runtime does not ask the registry "
        "about it (cri-dockerd). A kubelet takes such a success for proof that the pod may have the image.",
    )

    @field_validator("endpoint")
    @classmethod
    def _is_a_socket(cls, value: str) -> str:
        try:
            socket_path(value)
        except ConfigurationError as error:
            raise ValueError(error.text) from error
        return value
