"""Faults of pulls."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import criimage.testing.remote
from conformance.planted.fault import Pulls, Sound, Unseen, backend, patched
from criimage.backend import PullProgress
from criimage.conformance.supply import PASSWORD, USER
from criimage.credentials import Credentials
from criimage.errors import AccessDenied, PullError, RegistryUnavailable, RemoteImageMissing
from criimage.reference import ImageID, Lookup
from criimage.testing.memory import _Stored
from criimage.testing.registry_client import RegistryClient
from criimage.testing.remote import FetchedImage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    from criimage.backend import Image, ProgressReporter, PullContext
    from criimage.reference import Pattern, Reference

    Pull = Callable[..., Awaitable[Image]]

_CREDENTIALS = "test_credentials_are_always_checked"
_ONE_MACHINE = Unseen("The suite's registry has images for this machine alone.")


@backend("P5", "a pull by digest gives a tag too", "test_a_digest_can_be_pulled")
class DigestGivesTag(Pulls):
    async def instead(self, reference: Reference, credentials: Credentials | None, pull: Pull) -> Image:
        image = await pull()
        if reference.tag is None:
            self._stored[image.id].tags.add(replace(reference, tag="latest", digest=None))
            self._images = None
        return image


@backend("P6", "the last tag is the only one", "test_every_image_is_listed_once")
class LastTagOnly(Pulls):
    async def instead(self, reference: Reference, credentials: Credentials | None, pull: Pull) -> Image:
        image = await pull()
        self._stored[image.id].tags = {reference}
        self._images = None
        return image


@patched("P8", "the first image of an index is taken, for whatever machine", _ONE_MACHINE)
def _any_machine(patch: pytest.MonkeyPatch) -> None:
    class Any_(str):  # noqa: N801 - equal to all
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = str.__hash__

    patch.setattr(criimage.testing.remote, "machine_architecture", lambda: Any_("any"))


@backend("P10", "a moved tag stays with the old image too", "test_a_pull_moves_the_name")
class TagStays(Pulls):
    async def instead(self, reference: Reference, credentials: Credentials | None, pull: Pull) -> Image:
        had = [one for one in self._stored.values() if reference in one.tags]
        image = await pull()
        for one in had:
            one.tags.add(reference)
        self._images = None
        return image


@backend("P11", "what is stored is not asked for", "test_the_registry_is_always_asked")
class Trusting(Pulls):
    async def instead(self, reference: Reference, credentials: Credentials | None, pull: Pull) -> Image:
        found = await self.status(Lookup.parse(str(reference)))
        return found.image if found else await pull()


@backend("P12", "what is stored is fetched again", Unseen("Not every registry that an author brings can count."))
class Forgetful(Sound):
    async def _fetched(self, *arguments: Any) -> FetchedImage:  # noqa: ANN401 - as they come
        return replace(await super()._fetched(*arguments), layers=frozenset())


@backend("C2", "private images are pulled with somebody's credentials", _CREDENTIALS)
class SomebodyElse(Pulls):
    async def instead(self, reference: Reference, credentials: Credentials | None, pull: Pull) -> Image:
        for known in (credentials, Credentials("owner", "right")):
            with contextlib.suppress(AccessDenied):
                return await pull(known)
        return await pull(Credentials(USER, PASSWORD))


@backend("C4", "a stored tag is given to anybody", _CREDENTIALS)
class TrustingTags(Pulls):
    async def instead(self, reference: Reference, credentials: Credentials | None, pull: Pull) -> Image:
        try:
            return await pull()
        except AccessDenied:
            found = await self.status(Lookup.parse(str(reference)))
            if found and reference.tag:
                return found.image
            raise


@backend("C5", "a stored digest is given to anybody", "test_a_pull_by_digest_proves_access")
class TrustingDigests(Pulls):
    async def instead(self, reference: Reference, credentials: Credentials | None, pull: Pull) -> Image:
        found = await self.status(Lookup.parse(str(reference))) if reference.digest else None
        return found.image if found else await pull()


@backend("C9", "an error shows the password", _CREDENTIALS)
class Leaky(Pulls):
    async def instead(self, reference: Reference, credentials: Credentials | None, pull: Pull) -> Image:
        try:
            return await pull()
        except AccessDenied as error:
            raise AccessDenied(f"{error.text}: {credentials and credentials.password}") from error


@backend("E6", "a missing image is some failure", "test_what_the_registry_does_not_have_is_told")
class MissingIsAFailure(Pulls):
    async def instead(self, reference: Reference, credentials: Credentials | None, pull: Pull) -> Image:
        try:
            return await pull()
        except RemoteImageMissing:
            raise PullError(f"it did not work: {reference}") from None


@backend("E8", "a registry out of reach is some failure", "test_an_unreachable_registry_is_told")
class UnreachableIsAFailure(Pulls):
    async def instead(self, reference: Reference, credentials: Credentials | None, pull: Pull) -> Image:
        try:
            return await pull()
        except RegistryUnavailable:
            raise PullError(f"it did not work: {reference}") from None


@patched("E10", "layers are not checked", "test_what_a_digest_does_not_promise_is_refused")
def _unchecked_layers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(criimage.testing.remote, "_check_layer", lambda *_: None)


@patched("E11", "manifests are not checked", Unseen("Real registries serve none, and layers stand for both."))
def _unchecked_manifests(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(criimage.testing.remote, "_same", lambda *_: None)


@patched("H11", "a config may lie about its layers", Unseen("The suite's registry has no such image."))
def _unchecked_configs(patch: pytest.MonkeyPatch) -> None:
    same = criimage.testing.remote._same
    patch.setattr(
        criimage.testing.remote,
        "_same",
        lambda found, wanted, name: None if "1" * 64 in str(wanted) else same(found, wanted, name),
    )


@backend("D2", "a pull that nobody waits for goes on", "test_a_cancelled_pull_is_read_no_more")
class GoesOn(Pulls):
    kept: list[asyncio.Future[Any]]

    async def instead(self, reference: Reference, credentials: Credentials | None, pull: Pull) -> Image:
        going = asyncio.ensure_future(pull())
        self.kept = [*getattr(self, "kept", []), going]
        return await asyncio.shield(going)


@backend(
    "D6", "a pull that nobody waits for is finished later", Unseen("It ends the download, and a moment later begins.")
)
class FinishedLater(GoesOn):
    async def instead(self, reference: Reference, credentials: Credentials | None, pull: Pull) -> Image:
        try:
            return await super().instead(reference, credentials, pull)
        except asyncio.CancelledError:
            self.kept[-1].cancel()
            await asyncio.wait(self.kept[-1:])
            self.kept.append(asyncio.ensure_future(self._finish(pull)))
            raise

    async def _finish(self, pull: Pull) -> None:
        await asyncio.sleep(0.1)
        await pull()


@patched(
    "D9",
    "a manifest's request goes on when nobody waits for it",
    Unseen("The registry that an author brings need not tell who waits at a manifest."),
)
def _kept_requests(patch: pytest.MonkeyPatch) -> None:
    asked = RegistryClient.manifest
    # By a client that nobody ends.
    patch.setattr(
        RegistryClient, "manifest", lambda client, *names: asked(RegistryClient(client.address, timeout=5), *names)
    )


@backend("D10", "cancelled pulls keep their places", "test_a_cancelled_pull_is_read_no_more")
class ThreePlaces(GoesOn):
    def __init__(self) -> None:
        super().__init__()
        self.places = asyncio.Semaphore(3)

    async def instead(self, reference: Reference, credentials: Credentials | None, pull: Pull) -> Image:
        async def placed() -> Image:
            async with self.places:
                return await pull()

        return await super().instead(reference, credentials, placed)


@backend("D3", "an image is there before it has come", "test_a_cancelled_pull_leaves_nothing")
class Early(Pulls):
    async def instead(self, reference: Reference, credentials: Credentials | None, pull: Pull) -> Image:
        half = FetchedImage(ImageID("0" * 64), {}, (), 1, None, {}, {}, frozenset())
        self._stored[half.id], self._images = _Stored(half, {reference}), None
        image = await pull()
        del self._stored[half.id]
        self._images = None
        return image


@backend(
    Unseen("Whoever cancelled has gone and hears nothing."),
    "a cancel is told as a failure",
    "test_a_cancelled_pull_leaves_nothing",
)
class Deaf(Pulls):
    async def instead(self, reference: Reference, credentials: Credentials | None, pull: Pull) -> Image:
        try:
            return await pull()
        except asyncio.CancelledError:
            raise RemoteImageMissing("cancelled") from None


@backend(Unseen("CRI has no progress."), "bytes become fewer", "test_progress_only_grows")
class Backwards(Sound):
    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        report(PullProgress(bytes_done=10**9))
        return await super().pull(reference, credentials, context, report)


class _Locked(Pulls):
    """Has one lock."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = asyncio.Lock()

    async def instead(self, reference: Reference, credentials: Credentials | None, pull: Pull) -> Image:
        async with self.lock:
            return await pull()


@backend("Q4", "a list waits for the pulls", "test_listing_does_not_wait_for_a_pull")
class Waits(_Locked):
    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        async with self.lock:
            return await super().images(pattern)


@backend("Q5", "pulls wait for each other", "test_a_pull_that_stands_still_holds_up_no_other")
class OneByOne(_Locked):
    pass


@backend(
    Unseen("Equal pulls are one in the server."),
    "of equal pulls at once only the first succeeds",
    "test_pulls_at_once_all_succeed",
)
class FirstPull(Pulls):
    going: set[Reference]

    async def instead(self, reference: Reference, credentials: Credentials | None, pull: Pull) -> Image:
        self.going = getattr(self, "going", set())
        if reference in self.going:
            raise PullError(f"it is being pulled: {reference}")
        self.going.add(reference)
        try:
            return await pull()
        finally:
            self.going.remove(reference)


@backend("I1", "a pull again moves the digests", "test_pulling_again_changes_nothing")
class Moving(Pulls):
    async def instead(self, reference: Reference, credentials: Credentials | None, pull: Pull) -> Image:
        there = self._find(Lookup.parse(str(reference)))
        image = await pull()
        if there is not None:
            self._stored[image.id].digests.add(reference.with_digest(f"sha256:{len(there.digests):064x}"))
            self._images = None
        return image
