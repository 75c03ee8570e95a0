"""Errors: one kind a situation, and twins that several waiters may raise."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from criimage import errors
from criimage.errors import ConfigurationError, CriimageError, PullError
from criimage.files import UnreadableFile

KINDS = [getattr(errors, name) for name in errors.__all__]


def test_every_kind_has_a_name_of_its_own() -> None:
    """Metrics and logs tell kinds apart by `kind`, so no two classes share one, and none inherits one."""
    names = [kind.__dict__["kind"] for kind in KINDS]

    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name.islower() for name in names)


def test_every_error_is_public() -> None:
    """A backend raises only these; what is not in `__all__` would be in no table."""
    defined = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}

    assert defined == set(KINDS)
    assert all(issubclass(kind, CriimageError) for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_twin_is_equal_but_another_object(kind: type[CriimageError]) -> None:
    """P13: class, text and cause are the same; the traceback is its own."""
    cause = ValueError("cause")
    with pytest.raises(kind) as caught:
        raise kind("text") from cause

    twin = caught.value.for_another_waiter()

    assert type(twin) is kind
    assert (twin.text, str(twin), twin.args) == ("text", "text", ("text",))
    assert twin.__cause__ is cause
    assert twin.__traceback__ is None
    assert caught.value.__traceback__ is not None


def test_a_twin_of_an_error_with_more_than_a_text() -> None:
    """Where it was set, or which file it is about, stays; a file that cannot be read ends a pull for all who wait."""
    unset = ConfigurationError("no such key", ("pulls", "x"))
    assert unset.for_another_waiter().setting == ("pulls", "x")
    file = UnreadableFile(Path("/etc/policy.json"), "Permission denied", absent=True)
    for twin in (file.for_another_waiter(), file.with_text("other")):
        assert type(twin) is UnreadableFile
        assert (twin.path, twin.absent, twin.setting) == (file.path, True, ())
    assert file.for_another_waiter().text == "cannot read /etc/policy.json: Permission denied"


@pytest.mark.parametrize("kind", KINDS)
def test_another_text_keeps_the_kind(kind: type[CriimageError]) -> None:
    """P3: naming the earlier candidates changes what is said, not what happened; the first error stays as it was."""
    original = kind("short")
    original.__cause__ = OSError("cause")

    longer = original.with_text("long")

    assert type(longer) is kind
    assert (longer.text, str(longer)) == ("long", "long")
    assert longer.__cause__ is original.__cause__
    assert (original.text, str(original)) == ("short", "short")


async def test_waiters_do_not_collect_each_others_tracebacks() -> None:
    """P13: a thousand waiters of one failed pull see a traceback of their own length."""
    error = PullError("no")

    async def wait() -> int:
        try:
            raise error.for_another_waiter()
        except PullError as own:
            depth, frame = 0, own.__traceback__
            while frame is not None:
                depth, frame = depth + 1, frame.tb_next
            return depth

    assert set(await asyncio.gather(*(wait() for _ in range(1000)))) == {1}
