"""The table `[backends.containers-storage]`."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["FOLDERS", "Settings"]

FOLDERS = ("policy_dir", "namespaced_auth_dir", "certs_dir")
"""Keys that name a folder which is only read."""

# These would end or split the store's name in skopeo's `[driver@root+run:options]` (cri-o T2).
_STRUCTURAL = frozenset("[]@+:,=")


class Settings(BaseModel):
    """What an operator can set; what is empty follows the machine's own files.

    Paths are absolute. `root`, `run_root`, `driver` and `options` come from storage.conf where they are empty (L13).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    root: str = Field(default="", description="Where images and layers are; storage.conf's graphroot if empty.")
    run_root: str = Field(default="", description="State that a restart may lose; storage.conf's runroot if empty.")
    driver: str = Field(
        default="",
        description="Storage driver, such as overlay or vfs; storage.conf's if empty.",
    )
    options: tuple[str, ...] = Field(
        default=(),
        description='Driver options as "overlay.ignore_chown_errors=true"; storage.conf\'s if empty.',
    )
    registries_conf: str = Field(default="", description="Registries, mirrors, aliases; the system's if empty.")
    policy: str = Field(default="", description="Which signatures images need (policy.json); the system's if empty.")
    policy_dir: str = Field(
        default="",
        description="Where NAMESPACE.json replaces the policy for pulls of that namespace; no such folder if empty.",
    )
    auth_file: str = Field(
        default="",
        description="Credentials for pulls that bring none, and for mirrors; the tools' usual places if empty.",
    )
    namespaced_auth_dir: str = Field(
        default="",
        description="Where a credential provider puts NAMESPACE-<sha256 of the repository>.json for one pull, after "
        "which it is deleted; none if empty.",
    )
    short_name_mode: Literal["", "enforcing", "permissive", "disabled"] = Field(
        default="",
        description="What several search registries mean for a short name: enforcing refuses it, the others try all in "
        "order. registries.conf's short-name-mode if empty.",
    )
    skip_unchanged: bool = Field(
        default=True,
        description="Copy nothing if the registry still has what the store has under that name. The registry is asked "
        "all the same.",
    )
    image_proxy: bool = Field(
        default=True,
        description="Keep skopeo running for a while, three of them at most, to ask registries for manifests; else one "
        "is started for each question.",
    )
    tmp_dir: str = Field(
        default="", description="Where downloads are kept until unpacked; $TMPDIR or /var/tmp if empty."
    )
    certs_dir: str = Field(
        default="",
        description="Certificates (*.crt, *.cert, *.key) for all registries; /etc/containers/certs.d if empty.",
    )
    remove: Literal["image", "untag"] = Field(
        default="image",
        description="What removing by a name does: the image with all its names, or that name, and the image with its "
        "last one.",
    )

    @field_validator("driver")
    @classmethod
    def _driver(cls, value: str) -> str:
        if not re.fullmatch("[a-z0-9]*", value):
            raise ValueError("must be small letters and digits, such as overlay or vfs")
        return value

    @field_validator("root", "run_root")
    @classmethod
    def _store_path(cls, value: str) -> str:
        if _STRUCTURAL & set(value):
            raise ValueError(f"must not hold any of {' '.join(sorted(_STRUCTURAL))}")
        return cls._path(value)

    @field_validator(
        "registries_conf", "policy", "policy_dir", "auth_file", "namespaced_auth_dir", "tmp_dir", "certs_dir"
    )
    @classmethod
    def _path(cls, value: str) -> str:
        if value and not value.startswith("/"):
            raise ValueError("must be an absolute path")
        if "\0" in value:
            raise ValueError("must not hold a NUL byte")
        return value

    @field_validator("options")
    @classmethod
    def _options(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for option in value:
            name, equals, setting = option.partition("=")
            if not (name and equals) or set(",[]\0") & set(name + setting):
                raise ValueError(f'"{option}" is not of the form driver.name=value without commas and brackets')
        return value
