"""Behaviours of pull."""
# ruff: noqa: S101 - a test suite

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from criimage.credentials import Credentials
from criimage.errors import AccessDenied, ContentInvalid, RegistryUnavailable, RemoteImageMissing
from criimage.reference import Reference
from criimage.testing.conformance.checks import PATIENCE, cancelled, check_image, refused, some_time, unchanged, until
from criimage.testing.conformance.suite import Suite
from criimage.testing.stand import Capability

if TYPE_CHECKING:
    from criimage.testing.stand import Stand

__all__ = ["Pulling"]


class Pulling(Suite):
    """What pull promises."""

    async def test_a_pulled_image_is_there(self, stand: Stand) -> None:
        """B10, B20: what pull returns is what is listed, under the reference that was pulled."""
        published = await stand.registry.put("one", "team/one:1")
        async with stand.opened() as store:
            pulled = await store.pull(published.reference)

            assert await store.images() == (pulled,)
            assert pulled.id == published.id
            assert published.reference in pulled.tags
            assert published.reference.with_digest(published.digest) in pulled.digests
            check_image(pulled)

    async def test_a_digest_can_be_pulled(self, stand: Stand) -> None:
        """B21: it is found by that digest, and is the image that a tag of it gives."""
        published = await stand.registry.put("one", "team/one:1")
        digest = published.reference.with_digest(published.digest)
        async with stand.opened() as store:
            pulled = await store.pull(digest)

            assert digest in pulled.digests
            assert (await store.pull(published.reference)).id == pulled.id
            (image,) = await store.images()
            assert (image.tags, digest in image.digests) == ((published.reference,), True)

    async def test_pulling_again_changes_nothing(self, stand: Stand) -> None:
        """B22: the same image, the same list."""
        published = await stand.registry.put("one", "team/one:1")
        async with stand.opened() as store:
            first = await store.pull(published.reference)
            before = await store.images()

            assert await store.pull(published.reference) == first
            assert await store.images() == before

    async def test_a_pull_moves_the_name(self, stand: Stand) -> None:
        """B23: it leaves the image that had it, which stays with its other names."""
        old = await stand.registry.put("old", "team/one:latest", "team/one:old")
        async with stand.opened() as store:
            for reference in old.references:
                await store.pull(reference)
            new = await stand.registry.put("new", "team/one:latest")
            await store.pull(new.reference)

            images = {image.id: image for image in await store.images()}
            assert images[new.id].tags == (new.reference,)
            assert images[old.id].tags == (old.references[1],)
            details = await store.status(new.reference)
            assert details is not None
            assert details.image == images[new.id]

    async def test_what_the_registry_does_not_have_is_told(self, stand: Stand) -> None:
        """B24, B29: RemoteImageMissing for repository, tag and digest; the store stays as it was."""
        published = await stand.registry.put("one", "team/one:1")
        reference = published.reference
        missing = [
            Reference.parse(f"{reference.repository}:none"),
            Reference.parse(f"{reference.domain}/team/none:1"),
            reference.with_digest(f"sha256:{'0' * 64}"),
        ]
        async with stand.opened() as store:
            await store.pull(reference)
            async with unchanged(store):
                for absent in missing:
                    error = await refused(store.pull(absent), RemoteImageMissing)
                    assert error.text == (await refused(store.pull(absent), RemoteImageMissing)).text

    async def test_the_registry_is_always_asked(self, stand: Stand) -> None:
        """B25: also where everything is stored already."""
        self.need(Capability.WITHDRAW)
        published = await stand.registry.put("one", "team/one:1")
        async with stand.opened() as store:
            await store.pull(published.reference)
            await stand.registry.withdraw(published)
            async with unchanged(store):
                await refused(store.pull(published.reference), RemoteImageMissing)

    async def test_credentials_are_always_checked(self, stand: Stand) -> None:
        """B26, B29: nobody gets a private image by another's pull, and no error shows a password."""
        self.need(Capability.PRIVATE)
        published = await stand.registry.put("secret", "team/secret:1", private=True)
        wrong = Credentials(stand.registry.owner.username, "c4n4ry")
        async with stand.opened() as store:
            for credentials in (None, wrong):
                await refused(store.pull(published.reference, credentials), AccessDenied)
            assert await store.images() == ()
            await store.pull(published.reference, stand.registry.owner)
            async with unchanged(store):
                for credentials in (None, wrong, Credentials("c4n4ry", stand.registry.owner.password)):
                    await refused(store.pull(published.reference, credentials), AccessDenied)
            await store.pull(published.reference, stand.registry.owner)

    async def test_a_pull_by_digest_proves_access(self, stand: Stand) -> None:
        """B42, B29: the registry is asked about a digest that is stored, with exactly the given credentials."""
        self.need(Capability.PRIVATE)
        self.need(Capability.PROVES_DIGESTS)
        published = await stand.registry.put("secret", "team/secret:1", private=True)
        digest = published.reference.with_digest(published.digest)
        owner = stand.registry.owner
        async with stand.opened() as store:
            await store.pull(digest, owner)
            async with unchanged(store):
                for credentials in (None, Credentials(owner.username, "c4n4ry")):
                    await refused(store.pull(digest, credentials), AccessDenied)
            await store.pull(digest, owner)

    async def test_an_unreachable_registry_is_told(self, stand: Stand) -> None:
        """B27, B29: RegistryUnavailable, and nothing stored."""
        self.need(Capability.UNREACHABLE)
        async with stand.opened() as store:
            await refused(store.pull(Reference.parse("127.0.0.1:1/team/one:1")), RegistryUnavailable)
            assert await store.images() == ()

    async def test_a_cancelled_pull_leaves_nothing(self, stand: Stand) -> None:
        """B28: the cancellation comes through, the store is as before, and pulls go on working."""
        self.need(Capability.STALL)
        published = await stand.registry.put("one", "team/one:1")
        async with stand.opened() as store:
            await store.pull(published.reference)
            async with unchanged(store), stand.registry.stalled() as reference:
                pull = asyncio.create_task(store.pull(reference))
                await some_time(pull)
                await cancelled(pull)
                at_once = asyncio.create_task(store.pull(reference))
                await cancelled(at_once)
            assert await store.pull(published.reference) in await store.images()

    async def test_a_pull_that_stands_still_holds_up_no_other(self, stand: Stand) -> None:
        """B44: what hangs at a registry is that one pull's trouble."""
        self.need(Capability.STALL)
        published = await stand.registry.put("one", "team/one:1")
        async with stand.opened() as store, stand.registry.stalled() as reference:
            pull = asyncio.create_task(store.pull(reference))
            await some_time(pull)
            async with asyncio.timeout(PATIENCE):
                await store.pull(published.reference)
            assert not pull.done()
            await cancelled(pull)

    async def test_a_cancelled_pull_is_read_no_more(self, stand: Stand) -> None:
        """B43, B28: in the middle of a layer the cancel ends the download too, whoever does the work."""
        self.need(Capability.STOPS_PULLS)
        async with stand.opened() as store, stand.registry.unending() as image:
            pull = asyncio.create_task(store.pull(image.reference))
            await until(lambda: image.is_read() or pull.done())
            assert not pull.done()
            await cancelled(pull)
            await until(lambda: not image.is_read())
            assert await store.images() == ()

    async def test_what_a_digest_does_not_promise_is_refused(self, stand: Stand) -> None:
        """B38, B29: ContentInvalid, and nothing stored."""
        self.need(Capability.CORRUPT)
        async with stand.opened() as store, stand.registry.corrupted() as reference:
            async with unchanged(store):
                await refused(store.pull(reference), ContentInvalid)
            assert await store.status(reference) is None

    async def test_progress_only_grows(self, stand: Stand) -> None:
        """B30: bytes never become fewer; a backend that says so reports at least once."""
        published = await stand.registry.put("one", "team/one:1")
        async with stand.opened() as store:
            await store.pull(published.reference)

            done = [report.bytes_done for report in store.reports]
            assert done == sorted(done)
            assert done or not store.backend.reports_progress

    async def test_pulls_at_once_all_succeed(self, stand: Stand) -> None:
        """B31: of one reference, of several of one image, and of others."""
        same = await stand.registry.put("one", "team/one:1", "team/one:2")
        others = [await stand.registry.put(f"other {n}", f"team/other{n}:1") for n in range(3)]
        references = [*[same.reference] * 3, same.references[1], *(other.reference for other in others)]
        async with stand.opened() as store:
            async with asyncio.timeout(PATIENCE):
                pulled = await asyncio.gather(*(store.pull(reference) for reference in references))

            assert {image.id for image in pulled} == {same.id, *(other.id for other in others)}
            images = {image.id: image for image in await store.images()}
            assert set(images[same.id].tags) == set(same.references)
            assert len(images) == 4
