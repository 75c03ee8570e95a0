"""One caller at a time for each key, such as an image; a key that nobody needs any more is forgotten."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

__all__ = ["KeyedLocks"]

KeyT = TypeVar("KeyT", bound="Hashable")


class KeyedLocks(Generic[KeyT]):
    """A lock for each key, as long as somebody holds it or waits for it."""

    def __init__(self) -> None:
        # With how many have it: a lock that has just been released, and not been taken yet by whoever waits, is free.
        self._locks: dict[KeyT, tuple[asyncio.Lock, int]] = {}

    @contextmanager
    def of(self, key: KeyT) -> Iterator[asyncio.Lock]:
        """Yield the lock of a key, the same for all whose blocks overlap; taking it is the caller's."""
        lock, count = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, count + 1)
        try:
            yield lock
        finally:
            _, count = self._locks[key]
            if count > 1:
                self._locks[key] = (lock, count - 1)
            else:
                del self._locks[key]

    def __len__(self) -> int:
        """How many keys are needed now."""
        return len(self._locks)
