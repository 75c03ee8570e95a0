"""Faults of lists and statuses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import criimage.testing.remote
from conformance.planted.fault import Details, Lists, Lookups, Sound, Unseen, backend, patched
from criimage.backend import ImageDetails, Problem, User
from criimage.errors import OperationFailed
from criimage.reference import Lookup

if TYPE_CHECKING:
    import pytest

    from criimage.backend import Image
    from criimage.reference import Name, Pattern, Reference

_SAME = "test_the_list_is_the_same_while_nothing_changes"
_PATTERN = "test_a_pattern_lists_what_it_matches"
_LOOKUP = "test_every_lookup_finds_the_same"


@backend(Unseen("It costs time and nothing else: the server encodes the list anew."), "each list is a new tuple", _SAME)
class NewList(Lists):
    def instead(self, found: tuple[Image, ...], pattern: Pattern | None) -> tuple[Image, ...]:
        return (*found[:1], *found[1:])


@backend("L2", "an image with two tags is listed twice", "test_every_image_is_listed_once")
class ListedTwice(Lists):
    def instead(self, found: tuple[Image, ...], pattern: Pattern | None) -> tuple[Image, ...]:
        return found + tuple(one for one in found if len(one.tags) > 1)


@backend("L3", "the list is never looked at again", _SAME)
class Stale(Sound):
    kept: tuple[Image, ...] = ()

    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        self.kept = self.kept or await super().images()
        return self.kept


@backend("L4", "the list shows another size than a status", _LOOKUP)
class OtherSize(Lists):
    def instead(self, found: tuple[Image, ...], pattern: Pattern | None) -> tuple[Image, ...]:
        return tuple(replace(one, size=one.size + 1) for one in found)


@backend("L6", "the filter is ignored", _PATTERN)
class NoFilter(Sound):
    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        return await super().images()


@backend("L7", "a filter by ID finds nothing", _PATTERN)
class NoFilterByID(Lists):
    def instead(self, found: tuple[Image, ...], pattern: Pattern | None) -> tuple[Image, ...]:
        return () if pattern and pattern.lookup and pattern.lookup.id else found


@backend("L8", "a filter by the beginning of an ID finds nothing", _PATTERN)
class NoFilterByPrefix(Lists):
    def instead(self, found: tuple[Image, ...], pattern: Pattern | None) -> tuple[Image, ...]:
        return () if pattern and pattern.lookup and pattern.lookup.id_prefix else found


@backend("L9", "a filter that matches nothing is an error", _PATTERN)
class NoMatchIsAnError(Lists):
    def instead(self, found: tuple[Image, ...], pattern: Pattern | None) -> tuple[Image, ...]:
        if pattern is not None and not found:
            raise OperationFailed("no such image")
        return found


@backend("L10", "a match has only the name that was asked for", _PATTERN)
class OneNameOnly(Lists):
    def instead(self, found: tuple[Image, ...], pattern: Pattern | None) -> tuple[Image, ...]:
        return found if pattern is None else tuple(replace(one, tags=one.tags[:1]) for one in found)


@backend("L12", "the names change places", _SAME)
class Shuffled(Lists):
    turn = 0

    def instead(self, found: tuple[Image, ...], pattern: Pattern | None) -> tuple[Image, ...]:
        self.turn += 1
        return tuple(replace(one, tags=one.tags[:: 1 if self.turn % 2 else -1]) for one in found)


@backend("S1", "an absent image is an error", "test_an_untouched_store_is_empty")
class AbsentIsAnError(Sound):
    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        found = await super().status(lookup, verbose=verbose)
        if found is None:
            raise OperationFailed("no such image")
        return found


@backend("S2", "tags are not found", _LOOKUP)
class NoTags(Lookups):
    def misses(self, lookup: Lookup) -> bool:
        return lookup.name is not None and lookup.name.digest is None and lookup.id is None


@backend("S3", "IDs are not found", _LOOKUP)
class NoIDs(Lookups):
    def misses(self, lookup: Lookup) -> bool:
        return lookup.id is not None


@backend("S4", "digests are not found", _LOOKUP)
class NoDigests(Lookups):
    def misses(self, lookup: Lookup) -> bool:
        return lookup.name is not None and lookup.name.digest is not None


@backend("S5", "beginnings of IDs are not found", _LOOKUP)
class NoPrefixes(Lookups):
    def misses(self, lookup: Lookup) -> bool:
        return lookup.id_prefix is not None


@backend("S7", "an ID is found in one spelling only", _LOOKUP)
class OneSpelling(Lookups):
    def misses(self, lookup: Lookup) -> bool:
        return lookup.text.startswith("sha256:")


@backend("S6", "a status by ID leaves out the tags", _LOOKUP)
class PoorByID(Details):
    def instead(self, found: ImageDetails, lookup: Lookup) -> ImageDetails:
        return replace(found, image=replace(found.image, tags=())) if lookup.id else found


@backend(
    Unseen("IDs that begin alike take hundreds of images where the service makes the IDs."),
    "an ambiguous beginning of an ID finds some image",
    "test_an_ambiguous_prefix_finds_nothing",
)
class FirstMatch(Sound):
    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        for image in await self.images():
            if lookup.id_prefix and image.id.hex.startswith(lookup.id_prefix):
                lookup = Lookup(image.id.hex, id=image.id)
        return await super().status(lookup, verbose=verbose)


@backend(
    Unseen("Services differ: docker reads a text that is both as a name, CRI-O as the beginning of an ID."),
    "a text is read as a name first, which is not declared",
    "test_a_text_that_is_a_name_and_the_beginning_of_an_id",
)
class NameFirst(Sound):
    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        by_name = replace(lookup, id_prefix=None) if lookup.name is not None else lookup
        return await super().status(by_name, verbose=verbose) or await super().status(lookup, verbose=verbose)


class _Users(Details):
    """Tells another user."""

    def told(self, user: User | None) -> User | None:
        raise NotImplementedError

    def instead(self, found: ImageDetails, lookup: Lookup) -> ImageDetails:
        return replace(found, user=self.told(found.user))


@backend("S8", "a number is told as a name", "test_the_user_is_told[1002]")
class NumberAsName(_Users):
    def told(self, user: User | None) -> User | None:
        return User(name=str(user.uid)) if user and user.uid else user


@backend("S9", "a name is left out", "test_the_user_is_told[www-data]")
class NoName(_Users):
    def told(self, user: User | None) -> User | None:
        return None if user and user.name else user


@patched("S10", "a numeric user with a group is a name", "test_the_user_is_told[1003:1004]")
def _group_makes_a_name(patch: pytest.MonkeyPatch) -> None:
    read = criimage.testing.remote._user
    patch.setattr(criimage.testing.remote, "_user", lambda text: User(name=text) if text == "1003:1004" else read(text))


@patched("S11", "the group stays in a name", "test_the_user_is_told[www-data:1004]")
def _group_stays(patch: pytest.MonkeyPatch) -> None:
    read = criimage.testing.remote._user
    patch.setattr(
        criimage.testing.remote, "_user", lambda text: User(name=text) if text.startswith("www-data") else read(text)
    )


@backend("S12", "user 0 is left out", "test_the_user_is_told[0]")
class NoZero(_Users):
    def told(self, user: User | None) -> User | None:
        return None if user and user.uid == 0 else user


@backend("S13", "an image without a user has one", "test_the_user_is_told[]")
class SomeUser(_Users):
    def told(self, user: User | None) -> User | None:
        return user or User(uid=1000)


@backend("S14", "info is told to who did not ask", "test_info_is_for_who_asks")
class Talkative(Sound):
    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        return await super().status(lookup, verbose=True)


class _Infos(Details):
    """Tells other info."""

    def told(self, info: str) -> str:
        raise NotImplementedError

    def instead(self, found: ImageDetails, lookup: Lookup) -> ImageDetails:
        return replace(found, info={key: self.told(value) for key, value in found.info.items()})


@backend("S15", "info is cut", "test_info_is_for_who_asks")
class CutInfo(_Infos):
    def told(self, info: str) -> str:
        return info[:-2]


@backend(
    "S16", "info has no image spec", Unseen("What is in it is left to the backend: not every store keeps the spec.")
)
class EmptyInfo(_Infos):
    def told(self, info: str) -> str:
        return "{}"


@backend("S18", "another tag of a repository finds its image", "test_what_is_no_lookup_of_an_image_finds_nothing")
class AnyTag(Sound):
    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        found = await super().status(lookup, verbose=verbose)
        if found is None and lookup.name is not None:
            for image in await self.images():
                if any(tag.path == lookup.name.path for tag in image.tags):
                    return ImageDetails(image)
        return found


@backend("S21", "annotations are not told", Unseen("It is no promise: engines with graph drivers do not keep them."))
class NoAnnotations(Details):
    def instead(self, found: ImageDetails, lookup: Lookup) -> ImageDetails:
        return replace(found, annotations={})


@backend(
    Unseen("The second try succeeds, or fails, as the first."),
    "each candidate comes twice",
    "test_a_full_name_means_itself",
)
class Doubtful(Sound):
    async def resolve(self, name: Name) -> tuple[Reference, ...]:
        return (await super().resolve(name)) * 2


@backend(
    Unseen("CRI's image service has no such question."),
    "a store that works has a problem",
    "test_a_store_that_works_has_no_problems",
)
class Complaining(Sound):
    async def check(self) -> tuple[Problem, ...]:
        return (Problem("it is raining", "wait"),)
