r"""Small container images made in plain Python.

Every value is complete and frozen: an `Image` carries the bytes of its config, its layers and its manifest, so the
digests are known before anything is pushed, and a test can say which image ID or digest a server has to answer. The
same input gives the same bytes, and so the same digests, in every run on one machine.

    base = layer({"etc/motd": b"hello\n", "bin/sh": Link("busybox")})
    small = image(base, config=Config(user="1002", cmd=("sh",)))
    RegistryClient("127.0.0.1:5000").push(small, "team/small", "latest", "1.0")
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import random
import tarfile
import zlib
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def machine_architecture() -> str:
    """The name that image configs use for this machine's processor, such as `amd64`."""
    machine = platform.machine()
    return _GO_ARCHITECTURES.get(machine, machine)


@dataclass(frozen=True, slots=True)
class File:
    """A regular file of a layer.

    Attributes:
        content: its bytes.
        mode: its permission bits.
        uid: the owner.
        gid: the owning group.
    """

    content: bytes = field(repr=False)
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link of a layer; `target` is taken as it is."""

    target: str


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes as a registry keeps them.

    Attributes:
        media_type: what a descriptor calls them.
        data: the bytes.
        digest: `sha256:` and 64 hex digits over `data`.
    """

    media_type: str
    data: bytes = field(repr=False)
    digest: str

    @classmethod
    def of(cls, media_type: str, data: bytes) -> Blob:
        """A blob with the digest of its bytes."""
        return cls(media_type, data, _digest(data))

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    @property
    def descriptor(self) -> dict[str, Any]:
        """What a manifest says of this blob."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: a gzip-compressed tar.

    Attributes:
        data: the compressed bytes, as pushed.
        digest: over `data`; what the manifest names.
        diff_id: over the tar itself; what the config names.
        unpacked_size: bytes of the tar.
    """

    data: bytes = field(repr=False)
    digest: str
    diff_id: str
    unpacked_size: int


@dataclass(frozen=True, slots=True)
class Config:
    """What an image says of itself and of the container it wants.

    Attributes:
        user: `uid`, `name`, `uid:gid` or `name:group`; empty for root.
        env: `NAME=value` each.
        entrypoint: the fixed part of the command.
        cmd: the default arguments.
        labels: free text by name.
        working_dir: where the command starts.
        architecture: the processor, as Go names it; empty for this machine's.
        variant: such as `v7` for `arm`.
        os: the operating system.
        created: RFC 3339.
    """

    user: str = ""
    env: tuple[str, ...] = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = ""
    architecture: str = ""
    variant: str = ""
    os: str = "linux"
    created: str = "2020-01-01T00:00:00Z"

    @property
    def platform(self) -> dict[str, str]:
        """The platform as an index names it."""
        named = {"architecture": self.architecture or machine_architecture(), "os": self.os}
        return named | ({"variant": self.variant} if self.variant else {})


@dataclass(frozen=True, slots=True)
class Image:
    """An image for one platform.

    Attributes:
        config: the config blob; its digest is the image's ID.
        layers: from the lowest to the uppermost.
        manifest: the manifest blob; its digest is the image's digest.
        platform: as an index names it.
    """

    config: Blob
    layers: tuple[Layer, ...]
    manifest: Blob
    platform: Mapping[str, str]

    @property
    def id(self) -> str:
        """The image ID: `sha256:` and 64 hex digits over the config."""
        return self.config.digest

    @property
    def digest(self) -> str:
        """The digest that a registry answers for it."""
        return self.manifest.digest


@dataclass(frozen=True, slots=True)
class Index:
    """A multi-platform image: one manifest that lists others.

    Attributes:
        images: what it lists, in order.
        manifest: the index's own bytes.
    """

    images: tuple[Image, ...]
    manifest: Blob

    @property
    def digest(self) -> str:
        """The digest that a registry answers for it."""
        return self.manifest.digest


def layer(files: Mapping[str, bytes | File | Link], *, level: int = 6) -> Layer:
    """A layer with these files, their folders included.

    Args:
        files: content by path; a path has no leading slash. An empty mapping gives a valid, empty layer.
        level: of the compression, 0 to 9.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        made: set[PurePosixPath] = set()
        for path in sorted(files):
            for folder in reversed(PurePosixPath(path).parents[:-1]):
                if folder not in made:
                    made.add(folder)
                    tar.addfile(_member(str(folder), tarfile.DIRTYPE, 0o755))
            _add(tar, path, files[path])
    unpacked = buffer.getvalue()
    # wbits 31 writes a gzip header without name or time, the same from every Python version; gzip.compress does not.
    packer = zlib.compressobj(level, zlib.DEFLATED, 31)
    data = packer.compress(unpacked) + packer.flush()
    return Layer(data, _digest(data), _digest(unpacked), len(unpacked))


def noise_layer(size: int, *, seed: int | str = 0, path: str = "noise") -> Layer:
    """A layer of one file that does not compress, for slow, large or many pulls.

    Args:
        size: bytes of the file.
        seed: another seed gives other bytes; the same seed the same.
        path: the file's path.
    """
    generator = random.Random(seed)  # noqa: S311 - reproducible bytes are wanted, not secret ones
    return layer({path: generator.randbytes(size)}, level=1)


def image(
    *layers: Layer,
    config: Config | None = None,
    annotations: Mapping[str, str] | None = None,
    docker: bool = False,
    diff_ids: Sequence[str] | None = None,
) -> Image:
    """An image of these layers.

    Args:
        layers: from the lowest to the uppermost.
        config: what it says of itself; a plain one if None.
        annotations: of the manifest, and so not part of the ID.
        docker: whether it is written as Docker's schema 2 and not as OCI.
        diff_ids: what the config claims of its layers, for a test with an image that lies.
    """
    config = config or Config()
    claimed = [one.diff_id for one in layers] if diff_ids is None else list(diff_ids)
    described = Blob.of(DOCKER_CONFIG if docker else OCI_CONFIG, _json(_config_document(config, claimed)))
    layer_type = DOCKER_LAYER if docker else OCI_LAYER
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
        "config": described.descriptor,
        "layers": [Blob(layer_type, one.data, one.digest).descriptor for one in layers],
    }
    if annotations:
        manifest["annotations"] = dict(annotations)
    return Image(described, layers, Blob.of(manifest["mediaType"], _json(manifest)), config.platform)


def index(*images: Image, annotations: Mapping[str, str] | None = None, docker: bool = False) -> Index:
    """A multi-platform image that lists these.

    Args:
        images: one per platform.
        annotations: of the index.
        docker: whether it is written as Docker's manifest list and not as OCI.
    """
    listing: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": DOCKER_LIST if docker else OCI_INDEX,
        "manifests": [one.manifest.descriptor | {"platform": dict(one.platform)} for one in images],
    }
    if annotations:
        listing["annotations"] = dict(annotations)
    return Index(images, Blob.of(listing["mediaType"], _json(listing)))


def _config_document(config: Config, diff_ids: Sequence[str]) -> dict[str, Any]:
    run = {
        "User": config.user,
        "Env": list(config.env),
        "Entrypoint": list(config.entrypoint),
        "Cmd": list(config.cmd),
        "Labels": dict(config.labels),
        "WorkingDir": config.working_dir,
    }
    return config.platform | {
        "created": config.created,
        "config": {name: value for name, value in run.items() if value},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": [{"created": config.created, "created_by": "criimage.testing.oci"} for _ in diff_ids],
    }


def _add(tar: tarfile.TarFile, path: str, entry: bytes | File | Link) -> None:
    if isinstance(entry, Link):
        member = _member(path, tarfile.SYMTYPE, 0o777)
        member.linkname = entry.target
        tar.addfile(member)
        return
    file = entry if isinstance(entry, File) else File(entry)
    member = _member(path, tarfile.REGTYPE, file.mode)
    member.uid, member.gid, member.size = file.uid, file.gid, len(file.content)
    tar.addfile(member, io.BytesIO(file.content))


def _member(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type = kind
    member.mode = mode
    return member


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
