"""Images made to break whoever looks at them: each is refused or read, and the others are served as before."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from containers_storage.hostile import DEEP, with_config, with_more
from containers_storage.opened import opened, texts
from criimage import errors
from criimage.backend import User
from criimage.foreign_json import parse
from criimage.testing.oci import image, index, layer
from criimage_containers_storage.store.records import big_data_file
from parts.registry import registry
from parts.store import store

if TYPE_CHECKING:
    from criimage.testing.oci import Image

GOOD_NOTES = {"note": "n"}
GOOD = image(layer({"good": b"1"}), annotations=GOOD_NOTES)
OTHER = image(layer({"other": b"2"}))


ENGINE = pytest.mark.engine
MANY_DIGITS = "7" * 5000


@ENGINE
@pytest.mark.usefixtures("each_skopeo")
async def test_a_config_nested_too_deeply_harms_nobody_else() -> None:
    """A pull whose result nobody could read is refused and undone; the others are served as before (S18, contract)."""
    with registry() as hub, store() as local:
        good, other = hub.push(GOOD, "good", "1"), hub.push(OTHER, "other", "1")
        deep = hub.push(with_more(DEEP), "deep", "1")
        async with opened(local) as under_test:
            kept = await under_test.pull(good)
            with pytest.raises(errors.ContentInvalid, match=r"cannot be read \(nested deeper than 64\)"):
                await under_test.pull(deep)
            assert await under_test.backend.images() == (kept,)
            found = await under_test.status(good, verbose=True)
            assert found is not None
            assert found.image == kept
            second = await under_test.pull(other)
            assert await under_test.backend.images() == (kept, second)
            for name in (good, other):
                await under_test.remove(name)
                assert await under_test.status(name) is None
        assert local.images() == {}
        assert local.layers() == set()


@ENGINE
@pytest.mark.usefixtures("each_skopeo")
@pytest.mark.parametrize("names", [1, 0])
async def test_an_unreadable_image_that_was_here_stays(names: int) -> None:
    """What another tool pulled is listed and can be removed; a pull of it takes back its own name only (S18)."""
    with registry() as hub, store() as local:
        bad = with_more(DEEP)
        first, second = hub.push(index(bad), "first", "1"), hub.push(bad, "second", "1")
        good = hub.push(GOOD, "second", "2")
        local.pull(first)
        if not names:
            local.command("set-names", bad.id.removeprefix("sha256:"))
        before = local.images()
        async with opened(local) as under_test:
            kept = await under_test.pull(good)
            with pytest.raises(errors.ContentInvalid):
                await under_test.pull(second)
            assert local.images() == before | {kept.id.hex: (good,)}
            hub.push(bad, "second", "2")
            with pytest.raises(errors.ContentInvalid):
                await under_test.pull(good)
            assert local.images() == before | {kept.id.hex: (good,)}
            text = first if names else bad.id
            found = await under_test.status(text, verbose=True)
            assert found is not None
            assert texts(found.image.tags) == [first][:names]
            assert bad.digest in {digest.digest for digest in found.image.digests}
            assert found.image.size > 1000
            assert (found.user, found.annotations, found.info) == (None, {}, {})
            assert found.image in await under_test.backend.images()
            # Asked for again, its own name stays: it was here before.
            if names:
                with pytest.raises(errors.ContentInvalid):
                    await under_test.pull(first)
                assert local.images() == before | {kept.id.hex: (good,)}
            await under_test.remove(text)
            assert await under_test.backend.images() == (kept,)
        assert local.images() == {kept.id.hex: (good,)}


@ENGINE
@pytest.mark.usefixtures("each_skopeo")
@pytest.mark.parametrize("damage", ["manifest", "config", "folder"])
async def test_a_damaged_image_can_be_removed_or_pulled_again(damage: str) -> None:
    """What lost a file is removed like any other image, and a pull makes it whole (S18, R1, contract)."""
    with registry() as hub, store() as local:
        name = hub.push(GOOD, "good", "1")
        async with opened(local) as under_test:
            whole = await under_test.pull(name)
        folder = local.root / "overlay-images" / whole.id.hex
        files = {"manifest": "manifest", "config": big_data_file(GOOD.id), "folder": ""}

        def spoil() -> None:
            shutil.rmtree(folder) if damage == "folder" else (folder / files[damage]).unlink()
            for changed in (folder, folder.parent / "images.json"):
                if changed.exists():
                    os.utime(changed, (1, 1))

        spoil()
        async with opened(local) as under_test:
            assert [str(image.id) for image in await under_test.backend.images()] == [str(whole.id)]
            assert await under_test.pull(name) == whole
            found = await under_test.status(name)
            assert found is not None
            assert found.annotations == GOOD_NOTES
        spoil()
        async with opened(local) as under_test:
            await under_test.remove(str(whole.id))
            assert await under_test.backend.images() == ()
        assert local.images() == {}


@ENGINE
@pytest.mark.parametrize(
    ("made", "user"),
    [
        (with_more("1", run=f'{{"User": "{MANY_DIGITS}"}}'), User(name=MANY_DIGITS)),
        (with_more("1", run=f'{{"User": "{"0" * 5000}7:50"}}'), User(uid=7)),
        (with_more("1", run='{"User": "a\\ud800b"}'), User(name="a\ufffdb")),
        (with_more("1", run=f'{{"User": "u", "Labels": {{"big": "{"x" * 2**20}"}}}}'), User(name="u")),
        (with_more('"\\udfff \\ud83d\\ude00 \\u0000"', run='{"User": "u"}'), User(name="u")),
        (with_config(with_more("1").config.data, annotations={"big": "y" * 2**20, "empty": ""}), None),
    ],
    ids=["many digits", "many zeros", "half a pair in a name", "1 MB label", "half a pair", "1 MB annotation"],
)
async def test_strange_images_are_images(made: Image, user: User | None) -> None:
    """What skopeo stores and can be read is listed and told completely, as text that a message can carry (S10, S13)."""
    with registry() as hub, store() as local:
        name = hub.push(made, "strange", "1")
        async with opened(local) as under_test:
            pulled = await under_test.pull(name)
            found = await under_test.status(name, verbose=True)
            assert found is not None
            assert found.user == user
            assert dict(found.annotations) == json.loads(made.manifest.data)["annotations"]
            for text in found.info.values():
                assert json.loads(text.encode())["imageSpec"]["os"] == "linux"
            await under_test.remove(str(pulled.id))
            assert await under_test.backend.images() == ()


@ENGINE
@pytest.mark.parametrize(
    "made",
    [
        *(with_config(text) for text in (b"[]", b"5", b"null", b'"text"', b"", b"{", b"\xff\xfe")),
        *(with_config(b"{" + text + b"}") for text in (b'"rootfs": 5', b'"rootfs": {"diff_ids": {"a": 1}}')),
        *(with_more("1", run=text) for text in ('{"Labels": {"a": 5}}', '{"User": 5}', '{"Labels": [1]}', "[]")),
        with_more("7" * 5000),
        with_more("1e999"),
        with_more('{"a":' * 2000 + "1" + "}" * 2000),
        with_more('1, "history": 7'),
    ],
)
async def test_nonsense_is_refused_or_read_and_always_removable(made: Image) -> None:
    """Each is a clear error with nothing left, or an image like others; nothing between (S18, T16, contract)."""
    with registry() as hub, store() as local:
        good, strange = hub.push(GOOD, "good", "1"), hub.push(made, "strange", "1")
        async with opened(local) as under_test:
            kept = await under_test.pull(good)
            refused, pulled = "", None
            try:
                pulled = await under_test.pull(strange)
            except errors.PullError as error:
                refused = error.text
            assert "removed" not in refused
            expected = (kept,) if pulled is None else (kept, pulled)
            assert await under_test.backend.images() == expected
            assert (await under_test.status(strange, verbose=True) is None) is bool(refused)
            await under_test.remove(strange)
            assert local.images() == {kept.id.hex: (good,)}


def test_json_nested_too_deeply_is_no_json() -> None:
    """Readers expect a ValueError from what cannot be read, and get no other (S18)."""
    with pytest.raises(ValueError, match="nested deeper"):
        parse(DEEP)
