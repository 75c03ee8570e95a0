"""How the client commands print: tables for people, one JSON document with plain numbers for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from criimage.foreign_json import Bounds, dump, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from criimage.cri.runtime import v1

__all__ = [
    "document",
    "fields_table",
    "filesystem_fields",
    "filesystems_table",
    "image_fields",
    "images_table",
    "printable",
    "readable_size",
    "status_fields",
    "table",
]

_SHORT_ID = 13
_NONE = "<none>"
# What was within the bounds of a reader stands some levels deeper in a document, and a list may be long.
_DOCUMENT = Bounds(depth=80, members=50_000_000)


def document(value: Mapping[str, Any]) -> None:
    """Print one JSON document."""
    click.echo(dump(value, indented=True, bounds=_DOCUMENT))


def printable(text: str) -> str:
    """Return text of others', an image's author or a registry, so that it does not talk to the terminal itself."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print left-aligned columns, two or more spaces apart."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        click.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def readable_size(size: int) -> str:
    """Return bytes in decimal units, as crictl shows them."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g}{unit}"
        amount /= 1000
    return f"{amount:.3g}TB"


def image_fields(image: v1.Image) -> dict[str, Any]:
    """Return an image of a list."""
    return {
        "id": image.id,
        "repo_tags": list(image.repo_tags),
        "repo_digests": list(image.repo_digests),
        "size": image.size,
        "pinned": image.pinned,
    }


def status_fields(status: v1.ImageStatusResponse) -> dict[str, Any]:
    """Return all that a verbose status says; what is JSON in its info as JSON."""
    image = status.image
    fields = image_fields(image)
    if image.username:
        fields["username"] = image.username
    elif image.is_set("uid"):
        fields["uid"] = image.uid.value
    if image.spec.annotations:
        fields["annotations"] = dict(image.spec.annotations)
    fields["info"] = {key: _plain(value) for key, value in status.info.items()}
    return fields


def _plain(value: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return parse(value)
    except ValueError:
        return value


def filesystem_fields(usage: v1.FilesystemUsage) -> dict[str, Any]:
    """Return the usage of one file system."""
    return {
        "mountpoint": usage.fs_id.mountpoint,
        "used_bytes": usage.used_bytes.value,
        "inodes_used": usage.inodes_used.value,
        "timestamp": usage.timestamp,
    }


def images_table(images: Sequence[v1.Image]) -> None:
    """Print a row for each tag, or one for an image without."""
    rows = []
    for image in images:
        short = image.id.removeprefix("sha256:")[:_SHORT_ID]
        for name in image.repo_tags or [_untagged(image)]:
            repository, _, tag = name.rpartition(":")
            rows.append((repository, tag, short, readable_size(image.size), "yes" if image.pinned else ""))
    table(("IMAGE", "TAG", "IMAGE ID", "SIZE", "PINNED"), sorted(rows))


def _untagged(image: v1.Image) -> str:
    repository = image.repo_digests[0].partition("@")[0] if image.repo_digests else _NONE
    return f"{repository}:{_NONE}"


def filesystems_table(usages: Sequence[v1.FilesystemUsage]) -> None:
    """Print a row for each file system."""
    rows = [
        (usage.fs_id.mountpoint, readable_size(usage.used_bytes.value), str(usage.inodes_used.value))
        for usage in usages
    ]
    table(("MOUNTPOINT", "USED", "INODES"), rows)


def fields_table(fields: Mapping[str, Any]) -> None:
    """Print a line for each field; nested ones as JSON below it."""
    for name, value in fields.items():
        if isinstance(value, list):
            for item in value:
                click.echo(f"{name:<20} {item}")
        elif isinstance(value, dict):
            click.echo(f"{name}:")
            click.echo(dump(value, indented=True, bounds=_DOCUMENT))
        else:
            click.echo(f"{name:<20} {printable(str(value))}")
