"""From a store's record to what clients see (cri-o section 4).

What a record's big-data files say never changes while the record names the same digests (L11), so it is read once.
What cannot be read is told by the record alone (`bare_facts`): an image that is not listed could not be removed.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from criimage.backend import Image, User
from criimage.errors import InvalidRequest
from criimage.foreign_json import dump, parse_object
from criimage.reference import ImageID, Reference
from criimage_containers_storage.store.records import big_data_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from criimage_containers_storage.store.records import ImageRecord

__all__ = ["Facts", "bare_facts", "convert", "parse_names", "parse_user", "read_facts", "verbose_info"]

_INTEGER = re.compile(r"([+-]?)0*([0-9]{1,19})")
_INT64_LIMIT = 2**63
_SIZE_LIMIT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Facts:
    """What the files of one image say.

    Attributes:
        digests: all stored manifest digests: the indexes that list the image's own manifest, the latest first, then
            that manifest, then what is left of earlier pulls of the same content. The store does not tell which
            digest a registry answered for a tag (S4); an index can only be here because one did.
        config_digest: `sha256:…`, or empty for schema 1 (P10).
        diff_ids: digests of the uncompressed layers as the config promises them, the lowest first.
        user: as S10 has it.
        annotations: of the OCI manifest (S11).
        fault: why the files cannot be read, one line; empty if they can.
        unread: they may be good: reading them failed, which says nothing about what is in them.
    """

    digests: tuple[str, ...]
    config_digest: str
    diff_ids: tuple[str, ...]
    user: User | None
    annotations: Mapping[str, str] = field(hash=False)
    fault: str = ""
    unread: bool = False


def read_facts(folder: Path, record: ImageRecord) -> Facts:
    """Read what the files in `folder` (of this record) say. Blocks.

    Raises:
        OSError: a file is missing or cannot be read: the record is being written or removed, or damaged (L10).
        ValueError: a file is there, and not what it should be.
    """
    canonical = record.manifest_digest
    if not canonical:
        raise FileNotFoundError(errno.ENOENT, "no manifest is recorded")
    manifest = parse_object(_content(folder, "manifest"))
    described = manifest.get("config")
    config_digest = str(described.get("digest", "")) if isinstance(described, dict) else ""
    config = _config(folder, manifest, config_digest)
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    run = config.get("config")
    user = run.get("User") if isinstance(run, dict) else None
    return Facts(
        tuple(_ordered(folder, record.manifest_digests, canonical)),
        config_digest,
        tuple(map(str, diff_ids)) if isinstance(diff_ids, list) else (),
        parse_user(user) if isinstance(user, str) else None,
        _texts(manifest.get("annotations")),
    )


def bare_facts(folder: Path, record: ImageRecord, fault: str, *, unread: bool = False) -> Facts:
    """Return what is known of an image whose files cannot be read: its manifests' digests (S5). Blocks."""
    canonical = record.manifest_digest
    digests = tuple(_ordered(folder, record.manifest_digests, canonical)) if canonical else ()
    return Facts(digests, "", (), None, {}, fault, unread)


def _config(folder: Path, manifest: dict[str, Any], config_digest: str) -> dict[str, Any]:
    if config_digest:
        return parse_object(_content(folder, big_data_file(config_digest)))
    # Schema 1 carries its config as text in the history, the newest first (S14).
    history = manifest.get("history")
    if manifest.get("schemaVersion") != 1 or not isinstance(history, list) or not history:
        raise ValueError("the manifest names no config")
    newest = history[0]
    return parse_object(str(newest.get("v1Compatibility", "") if isinstance(newest, dict) else "").encode())


def _content(folder: Path, name: str) -> bytes:
    # Twice for each image of a store: pathlib would take as long as the kernel does.
    with open(f"{folder}/{name}", "rb", buffering=0) as file:  # noqa: PTH123
        return file.read()


def _ordered(folder: Path, digests: list[str], canonical: str) -> list[str]:
    if len(digests) == 1:
        return digests
    indexes = [digest for digest in reversed(digests) if digest != canonical and _lists(folder, digest, canonical)]
    others = [digest for digest in reversed(digests) if digest != canonical and digest not in indexes]
    return [*indexes, canonical, *others]


def _lists(folder: Path, digest: str, canonical: str) -> bool:
    try:
        index = parse_object(_content(folder, big_data_file(f"manifest-{digest}")))
    except (OSError, ValueError):
        return False
    listed = index.get("manifests")
    return isinstance(listed, list) and any(
        isinstance(entry, dict) and entry.get("digest") == canonical for entry in listed
    )


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(key, str) and isinstance(text, str)}


def parse_user(text: str) -> User | None:
    """Read a config's `User` (S10): a fitting number is a user ID, other text a name, what follows a colon a group."""
    name = text.partition(":")[0]
    if not name:
        return None
    # Of more digits Python would not make a number at all, and an image with them could not be read.
    number = _INTEGER.fullmatch(name)
    if number is not None and -_INT64_LIMIT <= (value := int("".join(number.groups()))) < _INT64_LIMIT:
        return User(uid=value)
    return User(name=name)


def parse_names(names: Iterable[str]) -> list[Reference]:
    """Read stored names; `<none>` and others that no client could use are dropped."""
    found = []
    for name in names:
        try:
            found.append(Reference.parse(name))
        except InvalidRequest:
            continue
    return found


def convert(
    record: ImageRecord, facts: Facts, names: Iterable[Reference], size: int | None, *, pinned: bool = False
) -> Image:
    """Make the value that clients see.

    Args:
        record: of the image.
        facts: of its files.
        names: those of the record's names that are still its own.
        size: bytes of the layers uncompressed, or None if unknown (S9).
        pinned: the image cannot be removed.
    """
    names = list(names)
    repositories = sorted({(name.domain, name.path) for name in names})
    if not repositories:
        # S6, S7: the oldest of the names it had last, as a whole name: CRI-O cuts at the first colon.
        repositories = [(name.domain, name.path) for name in parse_names(record.history)[:1]]
    digests = [Reference(domain, path, None, digest) for digest in facts.digests for domain, path in repositories]
    stored = sorted(name for name in names if name.digest is not None and name not in digests)
    return Image(
        ImageID(record.id),
        tuple(sorted({name for name in names if name.digest is None}, key=str)),
        tuple(digests + stored),
        1 if size is None else min(max(1, record.data_size + size), _SIZE_LIMIT),
        pinned,
    )


def verbose_info(folder: Path, record: ImageRecord, facts: Facts) -> dict[str, str]:
    """Return what a verbose status adds: `info` with labels and the image's config as JSON (S13). Blocks.

    Nothing if the files are gone or damaged by now.
    """
    try:
        config = _config(folder, parse_object(_content(folder, "manifest")), facts.config_digest)
        run = config.get("config")
        labels = _texts(run.get("Labels")) if isinstance(run, dict) else {}
        document: dict[str, object] = {"labels": labels} if labels else {}
        return {"info": dump(document | {"imageSpec": config})}
    except (OSError, ValueError):
        return {}
