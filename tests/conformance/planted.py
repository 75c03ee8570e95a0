"""Faults that a service could have, each planted alone into the backend in memory or the server in front of it.

A fault is named by the number of the behaviour that has to catch it.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from grpclib.const import Status

import criimage.server.calls
import criimage.server.images
import criimage.testing.remote
from criimage.backend import ImageDetails, PullContext, Usage, User
from criimage.credentials import Credentials
from criimage.errors import AccessDenied, InvalidRequest, OperationFailed, RemoteImageMissing
from criimage.pulls.running import PullKey
from criimage.reference import Lookup
from criimage.server import requests
from criimage.server.calls import unary
from criimage.server.replies import ImageReplies
from criimage.server.status import status_of
from criimage.testing.remote import FetchedImage, RemoteRegistry
from parts.serving import WatchedBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

    from criimage.backend import Image, ProgressReporter
    from criimage.reference import Pattern, Reference

__all__ = ["FAULTS", "Fault", "Sound"]


class Sound(WatchedBackend):
    """The backend in memory without a fault, pulling from real registries on 127.0.0.1."""

    def __init__(self) -> None:
        super().__init__()
        self._remote = RemoteRegistry("127.0.0.1:0")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        number: of the behaviour that catches it.
        sentence: what is wrong.
        backend: has the fault, or is sound.
        patch: puts the fault into the server.
    """

    number: str
    sentence: str
    backend: type[Sound] = Sound
    patch: Callable[[pytest.MonkeyPatch], None] | None = None


FAULTS: list[Fault] = []


def _backend(number: str, sentence: str) -> Callable[[type[Sound]], type[Sound]]:
    def add(backend: type[Sound]) -> type[Sound]:
        FAULTS.append(Fault(number, sentence, backend))
        return backend

    return add


def _server(number: str, sentence: str) -> Callable[[Callable[[pytest.MonkeyPatch], None]], None]:
    def add(patch: Callable[[pytest.MonkeyPatch], None]) -> None:
        FAULTS.append(Fault(number, sentence, patch=patch))

    return add


@_backend("L2", "an image with two tags is listed twice")
class ListedTwice(Sound):
    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        found = await super().images(pattern)
        return found + tuple(one for one in found if len(one.tags) > 1)


@_backend("L3", "the list is never looked at again")
class Stale(Sound):
    kept: tuple[Image, ...] = ()

    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        self.kept = self.kept or await super().images()
        return self.kept


@_backend("L4", "the list shows another size than a status")
class OtherSize(Sound):
    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        return tuple(replace(one, size=one.size + 1) for one in await super().images(pattern))


@_server("L5", "an empty filter is taken for a name")
def _empty_filter(patch: pytest.MonkeyPatch) -> None:
    read = requests.read_filter
    patch.setattr(requests, "read_filter", lambda data: read(data) or ("none.example/none:1" if data else ""))


@_backend("L6", "the filter is ignored")
class NoFilter(Sound):
    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        return await super().images()


@_backend("L7", "a filter by ID finds nothing")
class NoFilterByID(Sound):
    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        if pattern is not None and pattern.lookup is not None and pattern.lookup.id is not None:
            return ()
        return await super().images(pattern)


@_backend("L8", "a filter by the beginning of an ID finds nothing")
class NoFilterByPrefix(Sound):
    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        if pattern is not None and pattern.lookup is not None and pattern.lookup.id_prefix is not None:
            return ()
        return await super().images(pattern)


@_backend("L9", "a filter that matches nothing is an error")
class NoMatchIsAnError(Sound):
    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        found = await super().images(pattern)
        if pattern is not None and not found:
            raise OperationFailed("no such image")
        return found


@_backend("L10", "a match has only the name that was asked for")
class OneNameOnly(Sound):
    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        found = await super().images(pattern)
        return found if pattern is None else tuple(replace(one, tags=one.tags[:1]) for one in found)


@_backend("L12", "the names change places")
class Shuffled(Sound):
    turn = 0

    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        self.turn += 1
        found = await super().images(pattern)
        return tuple(replace(one, tags=one.tags[:: 1 if self.turn % 2 else -1]) for one in found)


class _Lookups(Sound):
    """Does not find what `misses` tells."""

    def misses(self, lookup: Lookup) -> bool:
        raise NotImplementedError

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        return None if self.misses(lookup) else await super().status(lookup, verbose=verbose)


@_backend("S1", "an absent image is an error")
class AbsentIsAnError(Sound):
    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        found = await super().status(lookup, verbose=verbose)
        if found is None:
            raise OperationFailed("no such image")
        return found


@_backend("S2", "tags are not found")
class NoTags(_Lookups):
    def misses(self, lookup: Lookup) -> bool:
        return lookup.name is not None and lookup.name.digest is None and lookup.id is None


@_backend("S3", "IDs are not found")
class NoIDs(_Lookups):
    def misses(self, lookup: Lookup) -> bool:
        return lookup.id is not None


@_backend("S4", "digests are not found")
class NoDigests(_Lookups):
    def misses(self, lookup: Lookup) -> bool:
        return lookup.name is not None and lookup.name.digest is not None


@_backend("S5", "beginnings of IDs are not found")
class NoPrefixes(_Lookups):
    def misses(self, lookup: Lookup) -> bool:
        return lookup.id_prefix is not None


@_backend("S7", "an ID is found in one spelling only")
class OneSpelling(_Lookups):
    def misses(self, lookup: Lookup) -> bool:
        return lookup.text.startswith("sha256:")


@_backend("S6", "a status by ID leaves out the annotations and the tags")
class PoorByID(Sound):
    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        found = await super().status(lookup, verbose=verbose)
        return found and (replace(found, image=replace(found.image, tags=())) if lookup.id else found)


class _Users(Sound):
    """Tells another user."""

    def told(self, user: User | None) -> User | None:
        raise NotImplementedError

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        found = await super().status(lookup, verbose=verbose)
        return found and replace(found, user=self.told(found.user))


@_backend("S8", "a number is told as a name")
class NumberAsName(_Users):
    def told(self, user: User | None) -> User | None:
        return User(name=str(user.uid)) if user and user.uid else user


@_backend("S9", "a name is left out")
class NoName(_Users):
    def told(self, user: User | None) -> User | None:
        return None if user and user.name else user


@_server("S10", "a numeric user with a group is a name")
def _group_makes_a_name(patch: pytest.MonkeyPatch) -> None:
    read = criimage.testing.remote._user
    patch.setattr(criimage.testing.remote, "_user", lambda text: User(name=text) if text == "1003:1004" else read(text))


@_server("S11", "the group stays in a name")
def _group_stays(patch: pytest.MonkeyPatch) -> None:
    read = criimage.testing.remote._user
    patch.setattr(
        criimage.testing.remote, "_user", lambda text: User(name=text) if text.startswith("www-data") else read(text)
    )


@_backend("S12", "user 0 is left out")
class NoZero(_Users):
    def told(self, user: User | None) -> User | None:
        return None if user and user.uid == 0 else user


@_backend("S13", "an image without a user has one")
class SomeUser(_Users):
    def told(self, user: User | None) -> User | None:
        return user or User(uid=1000)


@_backend("S14", "info is told to who did not ask")
class Talkative(Sound):
    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        return await super().status(lookup, verbose=True)


class _Infos(Sound):
    """Tells other info."""

    def told(self, info: str) -> str:
        raise NotImplementedError

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        found = await super().status(lookup, verbose=verbose)
        return found and replace(found, info={key: self.told(value) for key, value in found.info.items()})


@_backend("S15", "info is cut")
class CutInfo(_Infos):
    def told(self, info: str) -> str:
        return info[:-2]


@_backend("S16", "info has no image spec")
class EmptyInfo(_Infos):
    def told(self, info: str) -> str:
        return "{}"


@_backend("S18", "another tag of a repository finds its image")
class AnyTag(Sound):
    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        found = await super().status(lookup, verbose=verbose)
        if found is None and lookup.name is not None:
            for image in await self.images():
                if any(tag.path == lookup.name.path for tag in image.tags):
                    return ImageDetails(image)
        return found


@_backend("S21", "annotations are not told")
class NoAnnotations(Sound):
    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        found = await super().status(lookup, verbose=verbose)
        return found and replace(found, annotations={})


@_server("P1", "a pull answers nothing")
def _no_reference(patch: pytest.MonkeyPatch) -> None:
    async def answer(_self: object, request: bytes, **_more: object) -> bytes:
        return b""

    patch.setattr(criimage.server.images.ImageService, "_pull", answer)


@_server("P2", "a pull answers the digest")
def _digest_as_reference(patch: pytest.MonkeyPatch) -> None:
    pull = criimage.server.images.ImageService._pull

    async def answer(self: Any, request: bytes, **_more: object) -> bytes:  # noqa: ANN401
        return await pull(self, request, repo_digest=True)

    patch.setattr(criimage.server.images.ImageService, "_pull", answer)


class _Pulls(Sound):
    """Pulls in another way."""


@_backend("P5", "a pull by digest gives a tag too")
class DigestGivesTag(_Pulls):
    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        image = await super().pull(reference, credentials, context, report)
        if reference.tag is None:
            self._stored[image.id].tags.add(replace(reference, tag="latest", digest=None))
            self._images = None
        return image


@_backend("P6", "the last tag is the only one")
class LastTagOnly(_Pulls):
    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        image = await super().pull(reference, credentials, context, report)
        self._stored[image.id].tags = {reference}
        self._images = None
        return image


@_server("P8", "the first image of an index is taken, for whatever machine")
def _any_machine(patch: pytest.MonkeyPatch) -> None:
    class Any_(str):  # noqa: N801 - equal to all
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = str.__hash__

    patch.setattr(criimage.testing.remote, "machine_architecture", lambda: Any_("any"))


@_backend("P10", "a moved tag stays with the old image too")
class TagStays(_Pulls):
    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        had = [one for one in self._stored.values() if reference in one.tags]
        image = await super().pull(reference, credentials, context, report)
        for one in had:
            one.tags.add(reference)
        self._images = None
        return image


@_backend("P11", "what is stored is not asked for")
class Trusting(_Pulls):
    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        found = await self.status(Lookup.parse(str(reference)))
        return found.image if found else await super().pull(reference, credentials, context, report)


@_backend("C4", "a stored tag is given to anybody")
class TrustingTags(_Pulls):
    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        try:
            return await super().pull(reference, credentials, context, report)
        except AccessDenied:
            found = await self.status(Lookup.parse(str(reference)))
            if found and reference.tag:
                return found.image
            raise


@_backend("C5", "a stored digest is given to anybody")
class TrustingDigests(_Pulls):
    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        found = await self.status(Lookup.parse(str(reference))) if reference.digest else None
        return found.image if found else await super().pull(reference, credentials, context, report)


@_backend("P12", "what is stored is fetched again")
class Forgetful(_Pulls):
    async def _fetched(self, *arguments: Any) -> FetchedImage:  # noqa: ANN401 - as they come
        return replace(await super()._fetched(*arguments), layers=frozenset())


@_backend("C2", "private images are pulled with somebody's credentials")
class SomebodyElse(_Pulls):
    last: Credentials | None = None

    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        from criimage.conformance.supply import PASSWORD, USER

        return await super().pull(reference, credentials or Credentials(USER, PASSWORD), context, report)


@_backend("C9", "an error shows the password")
class Leaky(_Pulls):
    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        try:
            return await super().pull(reference, credentials, context, report)
        except AccessDenied as error:
            raise AccessDenied(f"{error.text}: {credentials and credentials.password}") from error


@_server("C6", "the field auth is passed over")
def _no_auth_field(patch: pytest.MonkeyPatch) -> None:
    read = Credentials.from_request

    def without(**fields: str) -> Credentials | None:
        return read(**{**fields, "auth": ""})

    patch.setattr(Credentials, "from_request", without)


@_server("C7", "a broken field auth is taken for none")
def _broken_auth_field(patch: pytest.MonkeyPatch) -> None:
    read = Credentials.from_request

    def lenient(**fields: str) -> Credentials | None:
        try:
            return read(**fields)
        except InvalidRequest:
            return None

    patch.setattr(Credentials, "from_request", lenient)


class _Removals(Sound):
    """Removes in another way."""


@_backend("R1", "a removed image stays in the list")
class StaysListed(_Removals):
    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        found = await super().images(pattern)
        if pattern is None:
            self.seen = {**getattr(self, "seen", {}), **{one.id: one for one in found}}
            return tuple(self.seen.values())
        return found


@_backend("R3", "a removal by tag removes that tag only")
class Untags(_Removals):
    async def remove(self, lookup: Lookup) -> None:
        found = self._find(lookup)
        if found is not None and lookup.id is None and lookup.name is not None and lookup.name.digest is None:
            found.tags = set(sorted(found.tags)[1:])
            self._images = None
            if found.tags:
                return
        await super().remove(lookup)


@_backend("R4", "a removal by digest does nothing")
class NoRemovalByDigest(_Removals):
    async def remove(self, lookup: Lookup) -> None:
        if lookup.name is None or lookup.name.digest is None:
            await super().remove(lookup)


@_backend("R5", "a removal by the beginning of an ID does nothing")
class NoRemovalByPrefix(_Removals):
    async def remove(self, lookup: Lookup) -> None:
        if lookup.id_prefix is None:
            await super().remove(lookup)


@_backend("R6", "removing an absent ID is an error")
class AbsentRemoval(_Removals):
    async def remove(self, lookup: Lookup) -> None:
        if lookup.id is not None and self._find(lookup) is None:
            raise RemoteImageMissing("no such image")
        await super().remove(lookup)


@_backend("R10", "a removal takes another image's names")
class TakesNames(_Removals):
    async def remove(self, lookup: Lookup) -> None:
        await super().remove(lookup)
        for one in self._stored.values():
            one.tags.clear()
        self._images = None


def _usage(change: Callable[[Usage], Usage]) -> type[Sound]:
    class Other(Sound):
        async def usage(self) -> Usage:
            return change(await super().usage())

    return Other


FAULTS += [
    Fault("U1", "there is no image file system", _usage(lambda one: Usage((), one.containers))),
    Fault(
        "U3", "the time is in seconds", _usage(lambda one: Usage((replace(one.images[0], timestamp=1700000000),), ()))
    ),
    Fault("U4", "there is no container file system", _usage(lambda one: Usage(one.images, ()))),
]


@_server("M1", "the last image of a stream comes twice")
def _twice_in_the_stream(patch: pytest.MonkeyPatch) -> None:
    def batches(self: ImageReplies, images: tuple[Image, ...]) -> Iterator[bytes]:
        yield self.some(images)
        yield self.some(images[-1:])

    patch.setattr(ImageReplies, "batches", batches)


@_server("M3", "a stream begins with an empty message")
def _empty_message(patch: pytest.MonkeyPatch) -> None:
    def batches(self: ImageReplies, images: tuple[Image, ...]) -> Iterator[bytes]:
        yield b""
        yield self.some(images)

    patch.setattr(ImageReplies, "batches", batches)


def _other_status(patch: pytest.MonkeyPatch, change: Callable[[Status, str], tuple[Status, str]]) -> None:
    told = status_of

    patch.setattr(criimage.server.calls, "status_of", lambda error: change(*told(error)))


@_server("E1", "a failed pull is NOT_FOUND")
def _not_found(patch: pytest.MonkeyPatch) -> None:
    _other_status(patch, lambda status, text: (Status.NOT_FOUND if status is Status.UNKNOWN else status, text))


@_server("E2", "each failure has a number")
def _numbered(patch: pytest.MonkeyPatch) -> None:
    number = itertools.count()
    _other_status(patch, lambda status, text: (status, f"{text} ({next(number)})"))


@_server("E3", "a failure's text has two lines")
def _two_lines(patch: pytest.MonkeyPatch) -> None:
    _other_status(patch, lambda status, text: (status, f"{text}\nsorry"))


@_server("E5", "a failure does not name the image")
def _nameless(patch: pytest.MonkeyPatch) -> None:
    _other_status(patch, lambda status, text: (status, text.partition(":")[0]))


@_server("E7", "no prefix tells that a registry is out of reach")
def _no_prefix(patch: pytest.MonkeyPatch) -> None:
    _other_status(patch, lambda status, text: (status, text.removeprefix("RegistryUnavailable: ")))


@_server("E10", "layers are not checked")
def _unchecked_layers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(criimage.testing.remote, "_check_layer", lambda *_: None)


@_server("E11", "manifests are not checked")
def _unchecked_manifests(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(criimage.testing.remote, "_same", lambda *_: None)


@_server("H11", "a config may lie about its layers")
def _unchecked_configs(patch: pytest.MonkeyPatch) -> None:
    same = criimage.testing.remote._same
    patch.setattr(
        criimage.testing.remote,
        "_same",
        lambda found, wanted, name: None if "1" * 64 in str(wanted) else same(found, wanted, name),
    )


@_server("Q2", "equal pulls are not shared")
def _unshared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PullKey, "__hash__", lambda self: id(self))
    patch.setattr(PullKey, "__eq__", lambda self, other: self is other)


@_server("Q6", "pulls are shared across credentials")
def _shared_by_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PullKey, "__hash__", lambda self: hash(self.candidates))
    patch.setattr(PullKey, "__eq__", lambda self, other: self.candidates == other.candidates)


@_backend("D2", "a pull that nobody waits for goes on")
class GoesOn(_Pulls):
    kept: list[asyncio.Task[Any]]

    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        going = asyncio.ensure_future(super().pull(reference, credentials, context, report))
        self.kept = [*getattr(self, "kept", []), going]
        return await asyncio.shield(going)


@_backend("Q4", "a list waits for the pulls")
class Waits(_Pulls):
    def __init__(self) -> None:
        super().__init__()
        self.lock = asyncio.Lock()

    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        async with self.lock:
            return await super().pull(reference, credentials, context, report)

    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        async with self.lock:
            return await super().images(pattern)


@_backend("Q5", "pulls wait for each other")
class OneByOne(_Pulls):
    def __init__(self) -> None:
        super().__init__()
        self.lock = asyncio.Lock()

    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        async with self.lock:
            return await super().pull(reference, credentials, context, report)


@_server("H2", "bytes that are no message are an empty one")
def _lenient(patch: pytest.MonkeyPatch) -> None:
    read = requests.read_filter

    def lenient(data: bytes) -> str:
        try:
            return read(data)
        except InvalidRequest:
            return ""

    patch.setattr(requests, "read_filter", lenient)


@_server("A2", "v1alpha2 shows other images")
def _other_images(patch: pytest.MonkeyPatch) -> None:
    methods = criimage.server.images.ImageService.methods

    def without(self: Any) -> list[Any]:  # noqa: ANN401
        async def nothing(_request: bytes) -> bytes:
            return b""

        made = methods(self)
        old = "/runtime.v1alpha2.ImageService/ImageStatus"
        return [unary(old, nothing) if one.path == old else one for one in made]

    patch.setattr(criimage.server.images.ImageService, "methods", without)


@_backend("I1", "a pull again moves the digests")
class Moving(_Pulls):
    async def pull(
        self, reference: Reference, credentials: Credentials | None, context: PullContext, report: ProgressReporter
    ) -> Image:
        there = self._find(Lookup.parse(str(reference)))
        image = await super().pull(reference, credentials, context, report)
        if there is not None:
            self._stored[image.id].digests.add(reference.with_digest(f"sha256:{len(there.digests):064x}"))
            self._images = None
        return image
