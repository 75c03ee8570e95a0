"""Answers as bytes: the same as google's protobuf makes, and made once for what is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from criimage.backend import FilesystemUsage, Image, ImageDetails, Usage, User
from criimage.cri.runtime import v1
from criimage.pins import Pins
from criimage.reference import ImageID, Reference
from criimage.server.services import replies
from criimage.server.services.replies import ImageReplies, ListTally, UsageReplies
from parts.google_client import deterministic, message

if TYPE_CHECKING:
    from collections.abc import Mapping

    import betterproto
    import pytest

VERSIONS = ("v1", "v1alpha2")


_domains = st.sampled_from(["docker.io", "a.b", "localhost:5000", "x-y.example:1"])
_paths = st.sampled_from(["library/a", "b", "c/d/e_f"])
_digests = st.binary(min_size=32, max_size=32).map(lambda data: f"sha256:{data.hex()}")
_tags = st.builds(Reference, _domains, _paths, st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}\Z"))
_names = st.builds(lambda reference, digest: reference.with_digest(digest), _tags, _digests)
_ids = st.builds(ImageID, st.binary(min_size=32, max_size=32).map(bytes.hex), st.booleans())
_images = st.builds(
    Image,
    _ids,
    st.lists(_tags, max_size=3).map(tuple),
    st.lists(_names, max_size=3).map(tuple),
    st.integers(1, 2**64 - 1),
    st.booleans(),
)
_users = st.none() | st.builds(User, st.integers(-(2**63), 2**63 - 1)) | st.builds(User, st.none(), st.text(max_size=9))
# Of keys of equal length, because runtimes order those differently of which one begins another.
_maps = st.dictionaries(st.text("abc\xe9\u4e2d", min_size=3, max_size=3), st.text(max_size=200), max_size=4)
_details = st.builds(ImageDetails, _images, _users, _maps, _maps)
_filesystems = st.builds(
    FilesystemUsage,
    st.text(max_size=20).map(lambda text: f"/{text}"),
    st.integers(0, 2**64 - 1),
    st.none() | st.integers(0, 2**64 - 1),
    st.integers(1, 2**63 - 1),
)


def _google(image: Image, details: ImageDetails | None = None, *, pinned: bool = False) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": str(image.id),
        "repo_tags": [str(tag) for tag in image.tags],
        "repo_digests": [str(digest) for digest in image.digests],
        "size": image.size,
        "pinned": image.pinned or pinned,
    }
    if details is None:
        return fields
    if details.user is not None and details.user.uid is not None:
        fields["uid"] = {"value": details.user.uid}
    elif details.user is not None:
        fields["username"] = details.user.name
    if details.annotations:
        fields["spec"] = {"annotations": dict(details.annotations)}
    return fields


def _better(kind: type[betterproto.Message], data: bytes) -> bytes:
    return bytes(kind().parse(data))


@given(st.lists(_images, max_size=4, unique_by=lambda image: image.id.hex), st.booleans())
@hypothesis_settings(deadline=None)
def test_lists_are_encoded_as_google_and_betterproto_do(images: list[Image], pin: bool) -> None:
    """Hand-made bytes of a list equal google's, deterministic, and betterproto's, with and without pins."""
    made = ImageReplies(Pins(["*/*"] if pin else ()))
    pinned = [pin and bool(image.tags or image.digests) for image in images]
    for version in VERSIONS:
        expected = message(
            f"runtime.{version}.ListImagesResponse",
            images=[_google(image, pinned=flag) for image, flag in zip(images, pinned, strict=True)],
        )
        assert made.all(tuple(images)) == made.some(tuple(images)) == deterministic(expected)
    assert _better(v1.ListImagesResponse, made.all(tuple(images))) == made.all(tuple(images))
    assert b"".join(made.batches(tuple(images))) == made.all(tuple(images))


@given(_details, st.booleans())
@hypothesis_settings(deadline=None)
def test_statuses_are_encoded_as_google_and_betterproto_do(details: ImageDetails, pin: bool) -> None:
    """The same for a status: uid 0 present, a name that is empty absent, maps in order."""
    data = ImageReplies(Pins(["*/*"] if pin else ())).status(details)
    pinned = pin and bool(details.image.tags or details.image.digests)
    for version in VERSIONS:
        fields = _google(details.image, details, pinned=pinned)
        expected = message(f"runtime.{version}.ImageStatusResponse", image=fields, info=dict(details.info))
        assert data == deterministic(expected)
    user = details.user
    # betterproto forgets the presence of an Int64Value of 0 (python-stack 1), and writes no empty value in a map.
    if not (user and user.uid == 0) and all((*details.annotations.values(), *details.info.values())):
        assert _better(v1.ImageStatusResponse, data) == data


def test_no_image_is_no_bytes() -> None:
    """A status of nothing is an empty answer, never an error (cri-protocol 1.1)."""
    assert ImageReplies(Pins(())).status(None) == b""


@given(st.lists(_filesystems, max_size=3), st.lists(_filesystems, max_size=3))
@hypothesis_settings(deadline=None)
def test_usage_is_encoded_as_google_does(images: list[FilesystemUsage], containers: list[FilesystemUsage]) -> None:
    """used_bytes is present even at 0: a kubelet dereferences it unseen (cri-protocol 2.8)."""

    def made(entry: FilesystemUsage) -> dict[str, Any]:
        fields = {
            "timestamp": entry.timestamp,
            "fs_id": {"mountpoint": entry.mountpoint},
            "used_bytes": {"value": entry.used_bytes},
        }
        return fields | ({} if entry.inodes_used is None else {"inodes_used": {"value": entry.inodes_used}})

    usage = Usage(tuple(images), tuple(containers))
    fields = {"image_filesystems": [made(entry) for entry in images]}
    old = message("runtime.v1alpha2.ImageFsInfoResponse", **fields)
    assert UsageReplies().of(usage, containers=False) == deterministic(old)
    fields["container_filesystems"] = [made(entry) for entry in containers]
    new = message("runtime.v1.ImageFsInfoResponse", **fields)
    assert UsageReplies().of(usage, containers=True) == deterministic(new)


def _image(number: int, tag: str = "1") -> Image:
    return Image(ImageID(f"{number:064x}"), (Reference.parse(f"a.b/c{number}:{tag}"),), (), number + 1)


def test_the_same_tuple_gives_the_same_bytes() -> None:
    """While the backend returns one tuple, the whole answer is one object (design section 3)."""
    made = ImageReplies(Pins(()))
    images = tuple(_image(n) for n in range(3))
    first = made.all(images)
    assert made.all(images) is first
    equal = made.all(tuple(_image(n) for n in range(3)))
    assert equal == first
    assert made.all(images) == first


def test_only_a_changed_image_is_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are kept by ID while the value is equal, and dropped with the image (design section 3)."""
    encoded: list[Image] = []
    names = replies._names

    def counted(image: Image) -> bytes:
        encoded.append(image)
        return names(image)

    monkeypatch.setattr(replies, "_names", counted)
    made = ImageReplies(Pins(()))
    made.all(tuple(_image(n) for n in range(3)))
    assert len(encoded) == 3
    changed = made.all((_image(0), _image(1, "2"), _image(2)))
    assert encoded[3:] == [_image(1, "2")]
    assert changed == ImageReplies(Pins(())).all((_image(0), _image(1, "2"), _image(2)))
    del encoded[:]
    made.some((_image(2),))
    made.all((_image(2), _image(0)))
    assert not encoded
    assert len(made._images) == 2
    made.all(())
    assert not made._images


def test_long_annotations_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of annotations cost a status their encoding once, as long as they are the same; few are kept."""
    monkeypatch.setattr(replies, "_LONG_ANNOTATIONS_KEPT", 2)
    encoded: list[int] = []
    written = replies._map

    def counted(number: int, entries: Mapping[str, str]) -> bytes:
        encoded.append(number)
        return written(number, entries)

    monkeypatch.setattr(replies, "_map", counted)
    long = {f"key {n}": "value" for n in range(101)}
    made = ImageReplies(Pins(()))

    def status(number: int, annotations: dict[str, str]) -> bytes:
        # A new image each time, as from a backend that makes its images anew.
        return made.status(ImageDetails(_image(number), None, annotations))

    first = status(0, long)
    assert first == ImageReplies(Pins(())).status(ImageDetails(_image(0), None, long))
    del encoded[:]
    assert status(0, dict(long)) == first
    assert not encoded
    assert status(0, long | {"key 0": "other"}) != first
    assert len(encoded) == 1
    for number in (1, 2, 0):
        status(number, long)
    assert len(encoded) == 4
    status(2, long)
    assert len(encoded) == 4


def test_an_id_in_another_spelling_is_encoded_again() -> None:
    """Equality of IDs looks at the digits alone; the bytes must not."""
    made = ImageReplies(Pins(()))
    bare, prefixed = Image(ImageID("0" * 64)), Image(ImageID("0" * 64, prefixed=True))
    assert bare == prefixed
    assert made.all((bare,)) != made.all((prefixed,))
    assert made.some((bare,)) != made.some((prefixed,))


def test_a_list_is_made_once_for_what_is_the_same() -> None:
    """The metric of lists counts those that were made and those that were kept, one each."""
    tally = ListTally()
    replies, images = ImageReplies(Pins(()), tally), ()
    assert [replies.all(images) for _ in range(3)] == [b""] * 3
    assert (tally.made, tally.kept) == (1, 2)
