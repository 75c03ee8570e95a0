"""Images made to break whoever looks at them: each is refused or read, and the others are served as before."""

from __future__ import annotations

import pytest

from containers_storage.hostile import DEEP, with_more
from containers_storage.opened import opened
from criimage import errors
from criimage.testing.oci import image, layer
from criimage_containers_storage.json_text import parse
from parts.registry import registry
from parts.store import store

GOOD = image(layer({"good": b"1"}))
OTHER = image(layer({"other": b"2"}))


@pytest.mark.engine
@pytest.mark.usefixtures("each_skopeo")
async def test_a_config_nested_too_deeply_harms_nobody_else() -> None:
    """A config that Python cannot read leaves listing, status, pulls and removals of the others alone (S18)."""
    with registry() as hub, store() as local:
        good, other = hub.push(GOOD, "good", "1"), hub.push(OTHER, "other", "1")
        deep = hub.push(with_more(DEEP), "deep", "1")
        async with opened(local) as under_test:
            kept = await under_test.pull(good)
            with pytest.raises(errors.CriimageError):
                await under_test.pull(deep)
            assert kept in await under_test.backend.images()
            found = await under_test.status(good, verbose=True)
            assert found is not None
            assert found.image == kept
            second = await under_test.pull(other)
            assert second in await under_test.backend.images()
            for name in (good, other):
                await under_test.remove(name)
                assert await under_test.status(name) is None


def test_json_nested_too_deeply_is_no_json() -> None:
    """Readers expect a ValueError from what cannot be read, and get no other (S18)."""
    with pytest.raises(ValueError, match="nested too deeply"):
        parse(DEEP)
