"""What a short name may mean (cri-o section 1), decided as podman and CRI-O decide it without a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread

from criimage.errors import ConfigurationError, InvalidRequest
from criimage.reference import Name, shown
from criimage.rounds import Rounds
from criimage_containers_storage.registries.registries_conf import Registries, alias_target

if TYPE_CHECKING:
    from criimage.reference import Reference
    from criimage_containers_storage.registries.current import CurrentRegistries

__all__ = ["Resolver", "candidates"]


def candidates(name: Name, registries: Registries, mode: str = "", *, pulling: bool = False) -> tuple[Reference, ...]:
    """Return what a name may mean, the best first.

    Args:
        name: as typed; one with a registry means exactly itself (N8).
        registries: the machine's configuration.
        mode: overrides the configuration's mode if not empty (N11).
        pulling: it is for a pull, so that the error says so in the words that clients know.

    Raises:
        ConfigurationError: the aliases cannot be read, the one of this name leads to no repository, or a search
            registry is none.
        InvalidRequest: there is no registry for a short name (N9), or several where the mode allows one (N11).
    """
    if name.domain is not None:
        if not set(name.domain) & {".", ":"} and name.domain != name.domain.lower():
            # A registry to docker and containerd, but not to the tools of this store (containers/image 5).
            raise InvalidRequest(f"invalid reference {shown(str(name))}: repository name must be lowercase")
        return (name.qualified(name.domain),)
    if registries.aliases_fault:
        # Without them the name could mean something else than its owner chose.
        raise ConfigurationError(registries.aliases_fault)
    alias = registries.aliases.get(name.path)
    if alias:
        # skopeo refuses a file with another one; where it could not be asked, an alias of itself would never end.
        target = alias_target(name.path, alias, registries.source)
        found = Name(target.domain, target.path, name.tag, name.digest)
        return candidates(found, registries, mode, pulling=pulling)
    search = registries.search
    if not search:
        purpose = "while trying to pull" if pulling else "for"
        raise InvalidRequest(
            f"no registries configured {purpose} an unqualified image: "
            f"short-name {shown(str(name))} did not resolve to an alias and no unqualified-search registries are "
            f'defined in "{registries.source}"'
        )
    # Unless someone said otherwise the tools are permissive, which without a terminal means all in order.
    if (mode or registries.mode) == "enforcing" and len(search) > 1:
        raise InvalidRequest(
            f"short name mode is enforcing, but image name {shown(str(name))} returns ambiguous list of "
            f"{len(search)} registries"
        )
    for one in search:
        if Name.parse(f"{one}/x").domain is None:
            # The tools would take it for a part of a name on docker.io.
            raise ConfigurationError(f'search registry "{one}" of {registries.source} is no host: it has no dot')
    # A search registry may carry a path: `example.com/mirror`.
    prefixes = (domain.partition("/") for domain in search)
    paths = ((domain, f"{folder}/{name.path}" if folder else name.path) for domain, _, folder in prefixes)
    return tuple(dict.fromkeys(Name(domain, path, name.tag, name.digest).qualified(domain) for domain, path in paths))


class Resolver:
    """Resolves names by registries.conf as it is at the time of the call."""

    def __init__(self, current: CurrentRegistries, mode: str) -> None:
        # Files that hang keep one thread, not one for each name that somebody asks for.
        self._looks = Rounds(lambda: anyio.to_thread.run_sync(current.for_names), "look at registries.conf for names")
        self._mode = mode

    async def resolve(self, name: Name, *, pulling: bool = False) -> tuple[Reference, ...]:
        """Return the candidates of a name, see `candidates`."""
        if name.domain is not None:
            return candidates(name, Registries(), self._mode)
        return candidates(name, await self._looks.answer(), self._mode, pulling=pulling)

    def close(self) -> None:
        """Stop looking."""
        self._looks.close()
