"""Where the images of a run come from: a registry of ours, which can be told to misbehave, or one that was given.

Every name has the run's own word in it, so nothing on a node that is in use can be meant by mistake.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from criimage.testing.registry_client import RegistryClient
from criimage.testing.scripted_registry import Auth, ScriptedRegistry, scripted_registry

if TYPE_CHECKING:
    from criimage.testing.oci import Image, Index

__all__ = ["PASSWORD", "RUN_WORD", "USER", "Published", "Supply"]

USER = "conformance"
"""The account of the private registries of ours."""

PASSWORD = f"c4n4ry-{secrets.token_hex(8)}"
"""Its password, another one in every run; no report and no answer may show it."""


@dataclass(frozen=True, slots=True)
class Published:
    """An image that can be pulled.

    Attributes:
        host: of the registry, with its port.
        path: the repository below it.
        tags: its tags there, at least one.
        item: what it is.
    """

    host: str
    path: str
    tags: tuple[str, ...]
    item: Image | Index

    @property
    def repository(self) -> str:
        """Host and path."""
        return f"{self.host}/{self.path}"

    @property
    def name(self) -> str:
        """Its first name with a tag."""
        return f"{self.repository}:{self.tags[0]}"

    @property
    def names(self) -> tuple[str, ...]:
        """Its names with each tag."""
        return tuple(f"{self.repository}:{tag}" for tag in self.tags)

    @property
    def digest(self) -> str:
        """The digest that the registry answers for it."""
        return self.item.digest

    @property
    def by_digest(self) -> str:
        """Its name by digest."""
        return f"{self.repository}@{self.digest}"


RUN_WORD = "criimage-conformance"
"""In the names of every run's images; what follows is the run's own."""


class Supply:
    """Makes images pullable. A context manager.

    Args:
        given: `HOST:PORT` of a registry that anybody may push to; empty for registries of ours on 127.0.0.1.

    Attributes:
        run: the word that all names of this run have in them.
    """

    def __init__(self, given: str = "") -> None:
        self._given = given
        self.run = f"{RUN_WORD}-{secrets.token_hex(4)}"
        self._stack = ExitStack()
        self._open: ScriptedRegistry | None = None
        self._basic: ScriptedRegistry | None = None
        self._bearer: ScriptedRegistry | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if not self._given:
                accounts = {USER: PASSWORD}
                self._open = stack.enter_context(scripted_registry())
                self._basic = stack.enter_context(scripted_registry(auth=Auth.BASIC, accounts=accounts))
                self._bearer = stack.enter_context(scripted_registry(auth=Auth.BEARER, accounts=accounts))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def scripted(self) -> bool:
        """Whether the registries are ours."""
        return not self._given

    @property
    def hub(self) -> ScriptedRegistry:
        """Our registry for everybody."""
        return _ours(self._open)

    @property
    def basic(self) -> ScriptedRegistry:
        """Our registry that wants user and password with each request."""
        return _ours(self._basic)

    @property
    def bearer(self) -> ScriptedRegistry:
        """Our registry that wants a token of its own."""
        return _ours(self._bearer)

    @property
    def host(self) -> str:
        """`HOST:PORT` where images for everybody are."""
        return self._given or self.hub.address

    async def put(self, item: Image | Index, path: str, *tags: str, hub: ScriptedRegistry | None = None) -> Published:
        """Make an image pullable below the run's word, with these tags, `latest` where there is none.

        Raises:
            OSError, RegistryError: the registry that was given does not take it.
        """
        tags = tags or ("latest",)
        full = f"{self.run}/{path}"
        if self.scripted:
            where = hub or self.hub
            where.put(item, full, *tags)
            return Published(where.address, full, tags, item)
        await asyncio.to_thread(RegistryClient(self._given).push, item, full, *tags)
        return Published(self._given, full, tags, item)


def _ours(hub: ScriptedRegistry | None) -> ScriptedRegistry:
    if hub is None:
        raise RuntimeError("there is no registry of ours")
    return hub
