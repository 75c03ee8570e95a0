"""The table `[backends.docker]`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from criimage.duration import Duration

__all__ = ["Settings"]

_SCHEMES = ("unix://", "tcp://", "http://", "https://")


class Settings(BaseModel):
    """What an operator can set; what is empty follows the environment, as it does for docker's own client."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        default="",
        description="Where the engine listens: unix:///PATH, tcp://HOST:PORT, http:// or https://. DOCKER_HOST if "
        "empty, else unix:///var/run/docker.sock.",
    )
    cert_path: str = Field(
        default="",
        description="Folder with ca.pem, cert.pem and key.pem for TLS over tcp. DOCKER_CERT_PATH if empty and "
        "DOCKER_TLS_VERIFY is set.",
    )
    request_timeout: Duration = Field(
        default=119.0,
        gt=0,
        description="How long the engine may take for anything but a pull.",
    )
    cache: bool = Field(
        default=True,
        description="Answer from what the engine listed last while its events say that nothing has changed. Off: every "
        "answer asks the engine.",
    )
    cache_ttl: Duration = Field(
        default=60.0,
        gt=0,
        description="After so long the engine is asked again even if no event came.",
    )

    mountpoint: str = Field(
        default="",
        description="What ImageFsInfo names as the images' file system; the engine's data folder if empty. For an "
        "engine whose containerd keeps images elsewhere, or that runs on another machine.",
    )

    @field_validator("host")
    @classmethod
    def _host(cls, value: str) -> str:
        if value and not value.startswith(_SCHEMES):
            raise ValueError(f"must begin with one of {' '.join(_SCHEMES)}")
        if any(character.isspace() or not character.isprintable() for character in value):
            raise ValueError("must not hold white space or control characters")
        return value

    @field_validator("cert_path", "mountpoint")
    @classmethod
    def _path(cls, value: str) -> str:
        if value and not value.startswith("/"):
            raise ValueError("must be an absolute path")
        return value
