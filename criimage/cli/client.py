"""The client commands: what crictl does with images, for any CRI image service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from criimage.cli import completing, output
from criimage.cli.connection import ask, client_options, talk_to, version_of
from criimage.cri.runtime import v1

if TYPE_CHECKING:
    from criimage.channel import Channel

__all__ = ["fsinfo", "images", "inspect", "rmi", "version"]


@click.command()
@click.argument("pattern", default="", shell_complete=completing.images)
@client_options
def images(pattern: str, endpoint: str, form: str) -> None:
    """List images, or those that PATTERN matches."""

    async def talk(channel: Channel) -> None:
        filtered = v1.ListImagesRequest(filter=v1.ImageFilter(image=v1.ImageSpec(image=pattern)))
        found = (await ask(channel, "ListImages", filtered, v1.ListImagesResponse)).images
        if form == "json":
            output.document({"images": [output.image_fields(image) for image in found]})
        else:
            output.images_table(found)

    talk_to(endpoint, talk)


@click.command()
@click.argument("reference", shell_complete=completing.images)
@client_options
def inspect(reference: str, endpoint: str, form: str) -> None:
    """Show all that is known of the image REFERENCE: a name, an ID or the beginning of one."""

    async def talk(channel: Channel) -> None:
        status = await _status(channel, reference, verbose=True)
        fields = output.status_fields(status)
        if form == "json":
            output.document(fields)
        else:
            output.fields_table(fields)

    talk_to(endpoint, talk)


async def _status(channel: Channel, reference: str, *, verbose: bool = False) -> v1.ImageStatusResponse:
    request = v1.ImageStatusRequest(image=v1.ImageSpec(image=reference), verbose=verbose)
    status = await ask(channel, "ImageStatus", request, v1.ImageStatusResponse)
    if not status.image.id:
        raise click.ClickException(f"no such image: {reference}")
    return status


@click.command()
@click.argument("references", nargs=-1, required=True, shell_complete=completing.images)
@client_options
def rmi(references: tuple[str, ...], endpoint: str, form: str) -> None:
    """Remove images by name, ID or the beginning of an ID, each with all its names."""
    removed: list[dict[str, Any]] = []
    failed: list[str] = []

    async def remove(channel: Channel, reference: str) -> None:
        status = await _status(channel, reference)
        request = v1.RemoveImageRequest(image=v1.ImageSpec(image=status.image.id))
        await ask(channel, "RemoveImage", request, v1.RemoveImageResponse, seconds=None)
        names = [*status.image.repo_tags, *status.image.repo_digests]
        removed.append({"id": status.image.id, "names": names})
        if form == "table":
            for name in names or [status.image.id]:
                click.echo(f"Removed: {name}")

    async def talk(channel: Channel) -> None:
        for reference in references:
            try:
                await remove(channel, reference)
            except click.ClickException as error:
                failed.append(error.message)
                click.echo(f"Error: {error.message}", err=True)

    talk_to(endpoint, talk)
    if form == "json":
        output.document({"removed": removed, "errors": failed})
    if failed:
        raise SystemExit(1)


@click.command()
@client_options
def fsinfo(endpoint: str, form: str) -> None:
    """Show where images lie and what they take."""

    async def talk(channel: Channel) -> None:
        found = await ask(channel, "ImageFsInfo", v1.ImageFsInfoRequest(), v1.ImageFsInfoResponse)
        if form == "json":
            output.document(
                {
                    "image_filesystems": [output.filesystem_fields(usage) for usage in found.image_filesystems],
                    "container_filesystems": [output.filesystem_fields(usage) for usage in found.container_filesystems],
                }
            )
        else:
            output.filesystems_table(found.image_filesystems)

    talk_to(endpoint, talk)


@click.command()
@client_options
def version(endpoint: str, form: str) -> None:
    """Show what answers at the endpoint."""

    async def talk(channel: Channel) -> None:
        found = await version_of(channel)
        fields = {
            "version": found.version,
            "runtime_name": found.runtime_name,
            "runtime_version": found.runtime_version,
            "runtime_api_version": found.runtime_api_version,
        }
        if form == "json":
            output.document(fields)
        else:
            output.fields_table(fields)

    talk_to(endpoint, talk)
