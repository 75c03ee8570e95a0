"""Names of images as values that cannot be wrong.

Text from a client becomes one of these before anything else sees it, so no tool, URL or file name ever meets a text
that the grammar did not accept.

    Name       what a person typed: busybox, host:5000/a/b:tag@sha256:…; its registry may be missing
    Reference  complete: registry, repository, and either a tag or a digest
    ImageID    the node-local ID of a stored image
    Lookup     text that asks for a stored image: an ID, the beginning of an ID, or a name; cafe may be two of them
    Pattern    text that filters a list

The grammar is that of distribution/reference (cri-o N1-N5), checked against docker-image-py in the tests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from ipaddress import AddressValueError, IPv6Address
from typing import Self

from criimage.errors import InvalidRequest
from criimage.foreign_text import keep_start
from criimage.masking import mask_forms

__all__ = [
    "DEFAULT_DOMAIN",
    "ImageID",
    "Lookup",
    "Name",
    "Pattern",
    "Reference",
    "registry_host",
    "shown",
]

DEFAULT_DOMAIN = "docker.io"
"""The registry of names without one, where the store knows no other."""
_DOCKER_HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.docker.io"})
"""What Docker Hub is called."""
_DEFAULT_TAG = "latest"
_NAME_LENGTH_LIMIT = 255
_PREFIX_MINIMUM = 3
_SHOWN_LIMIT = 100
_TEXT_LIMIT = 1024
"""Characters of any text that could be a name: repository, tag and digest with all their signs have 516 at most."""
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}

_LABEL = r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[A-Fa-f0-9:]+\])(?::[0-9]+)?")
_PATH_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PATH_PART}(?:/{_PATH_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HEX = re.compile(r"[0-9a-f]+")
_ANY_HEX = re.compile(r"[0-9A-Fa-f]+")
_ID_LENGTH = 64
_GLOB = re.compile(r"(?=.*[*?\[])[A-Za-z0-9_.:/@*?\[\]^!\\-]+")


def shown(text: str) -> str:
    """Return `text` fit for an error message: quoted, printable, at most 100 characters of it."""
    # A user with a password before the host is a mistake that should not be repeated in a log.
    cut = keep_start(mask_forms(keep_start(text, _TEXT_LIMIT)), _SHOWN_LIMIT + 1)
    return '"' + cut.encode("unicode_escape").decode().replace('"', '\\"') + '"'


def registry_host(domain: str) -> str:
    """Return the one spelling of the registry that `domain`, of a name, leads to.

    Names keep the registry as it was typed (N1, N2), and many spellings lead to one server: capitals, HTTPS's own port,
    zeros before a port, the forms of an IPv6 address, docker.io's names for itself. What is counted by registry is
    counted by this. Addresses and other names of the same server remain registries of their own.
    """
    address, bracket, rest = domain.lower().partition("]")
    if bracket:
        try:
            address = f"[{IPv6Address(address.removeprefix('[')).compressed}]"
        except AddressValueError:
            address += bracket
        port = rest.removeprefix(":")
    else:
        address, _, port = address.partition(":")
    port = port.lstrip("0")
    if address in _DOCKER_HUB_HOSTS and port in {"", "443"}:
        return DEFAULT_DOMAIN
    return f"{address}:{port}" if port not in {"", "443"} else address


def _digest_fault(digest: str) -> str | None:
    algorithm, _, encoded = digest.partition(":")
    length = _DIGEST_LENGTHS.get(algorithm)
    if length is None:
        return "unsupported digest algorithm"
    if len(encoded) != length or not _HEX.fullmatch(encoded):
        return f"a {algorithm} digest has {length} lower-case hexadecimal digits"
    return None


def _is_id(text: str) -> bool:
    digits = text.removeprefix("sha256:")
    return len(digits) == _ID_LENGTH and _HEX.fullmatch(digits) is not None


def _has_domain(first: str) -> bool:
    # N1: anything else before the first slash is part of a short name. A path has no capital letters, so what has one
    # can only be a host: so read docker and containerd (distribution/reference since 2.8), CRI-O does not.
    return "." in first or ":" in first or first == "localhost" or first != first.lower()


@dataclass(frozen=True, slots=True)
class Name:
    """A name as typed that satisfies the grammar (N1, N2); its registry may still have to be found.

    Attributes:
        domain: registry host with optional port, as typed, or None for a short name.
        path: repository path, lower case, as typed: `library/` is not added here.
        tag: the tag, or None.
        digest: `algorithm:hex`, or None. Name and tag may stand beside it.
    """

    domain: str | None
    path: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a name.

        Raises:
            InvalidRequest: the text is empty, is an image ID in either spelling (N5), or does not satisfy the grammar.
        """
        if not text:
            raise InvalidRequest("no image specified")
        if len(text) > _TEXT_LIMIT:
            raise InvalidRequest(f"invalid reference {shown(text)}: it has {len(text)} characters")
        if _is_id(text):
            # `sha256:<64 hex>` would satisfy the grammar, as the tag of a repository called sha256.
            raise InvalidRequest(f"cannot parse an image ID as a name: {text}")
        head, at, digest = text.partition("@")
        domain, path, tag = cls._split(head)
        fault = cls._fault(domain, path, tag)
        if fault is None and at:
            fault = _digest_fault(digest)
        if fault is not None:
            raise InvalidRequest(f"invalid reference {shown(text)}: {fault}")
        return cls(domain, path, tag, digest or None)

    @staticmethod
    def _split(head: str) -> tuple[str | None, str, str | None]:
        first, slash, rest = head.partition("/")
        domain = first if slash and _has_domain(first) else None
        remainder = rest if domain is not None else head
        path, colon, tag = remainder.partition(":")
        return domain, path, tag if colon else None

    @staticmethod
    def _fault(domain: str | None, path: str, tag: str | None) -> str | None:
        if domain is not None and not (_has_domain(domain) and _DOMAIN.fullmatch(domain)):
            return "the registry host is not valid"
        if not _PATH.fullmatch(path):
            if _PATH.fullmatch(path.lower()):
                return "repository name must be lowercase"
            return "the repository name is not valid"
        if len(path) + (len(domain) + 1 if domain else 0) > _NAME_LENGTH_LIMIT:
            return f"repository name must not be more than {_NAME_LENGTH_LIMIT} characters"
        if tag is not None and not _TAG.fullmatch(tag):
            return "the tag is not valid"
        return None

    def qualified(self, domain: str) -> Reference:
        """Return the complete reference that this name means in registry `domain` (N3, N4, N8).

        Raises:
            InvalidRequest: the name becomes too long, or `domain` is no registry host.
        """
        if domain == "index.docker.io":
            domain = DEFAULT_DOMAIN
        path = f"library/{self.path}" if domain == DEFAULT_DOMAIN and "/" not in self.path else self.path
        fault = self._fault(domain, path, self.tag)
        if fault is not None:
            raise InvalidRequest(f"invalid reference {shown(f'{domain}/{self}')}: {fault}")
        if self.digest is not None:
            return Reference(domain, path, None, self.digest)
        return Reference(domain, path, self.tag or _DEFAULT_TAG, None)

    def __str__(self) -> str:
        text = self.path if self.domain is None else f"{self.domain}/{self.path}"
        text += f":{self.tag}" if self.tag is not None else ""
        return text + (f"@{self.digest}" if self.digest is not None else "")


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """A complete name: registry, repository and exactly one of tag and digest.

    Make one with `parse` or `Name.qualified`; the fields are then known to be valid and normalised: `docker.io` for
    every spelling of it, `library/` present, the tag dropped where a digest stands (N4).
    """

    domain: str
    path: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str, default_domain: str | None = None) -> Reference:
        """Read a complete reference; a name without a registry gets `default_domain`.

        Raises:
            InvalidRequest: not in the grammar, or without a registry where there is no default.
        """
        name = Name.parse(text)
        domain = name.domain or default_domain
        if domain is None:
            raise InvalidRequest(f"invalid reference {shown(text)}: it names no registry")
        return name.qualified(domain)

    @property
    def repository(self) -> str:
        """`host/path` without tag and digest."""
        return f"{self.domain}/{self.path}"

    def with_digest(self, digest: str) -> Reference:
        """Return `repository@digest`.

        Raises:
            ValueError: `digest` is not a valid digest.
        """
        fault = _digest_fault(digest)
        if fault is not None:
            raise ValueError(fault)
        return replace(self, tag=None, digest=digest)

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest}" if self.digest is not None else f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True, order=True)
class ImageID:
    """The ID of a stored image: 64 lower-case hexadecimal digits.

    Stores spell it differently on the wire (`sha256:<hex>` or the bare digits); `str()` gives the spelling of the
    store it came from, equality looks at the digits alone.
    """

    hex: str
    prefixed: bool = field(default=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an ID in either spelling.

        Raises:
            ValueError: it is neither.
        """
        if not _is_id(text):
            raise ValueError(f"not an image ID: {shown(text)}")
        return cls(text.removeprefix("sha256:"), prefixed=text.startswith("sha256:"))

    def __str__(self) -> str:
        return f"sha256:{self.hex}" if self.prefixed else self.hex


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a client asks a store for, with every way in which the text can be read.

    A full ID stands alone. In which order a store tries the other two is that of the runtime beside it, so that both
    mean the same image by one text: CRI-O the prefix, then the name (cri-o N6, S16); docker the name, then the prefix.
    All three may be None: the text is hexadecimal in upper case, which can be no ID and no name, and matches nothing
    (N7).

    Attributes:
        text: as the client wrote it.
        id: a full ID, in either spelling. Then there is no prefix and no name (N5).
        id_prefix: 3 to 63 lower-case hexadecimal digits (N6).
        name: the text read as a name.
    """

    text: str
    id: ImageID | None = None
    id_prefix: str | None = None
    name: Name | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a status or remove call.

        Raises:
            InvalidRequest: empty, or neither an ID, a prefix of one, nor a name.
        """
        if len(text) > _TEXT_LIMIT:
            raise InvalidRequest(f"invalid reference {shown(text)}: it has {len(text)} characters")
        if _is_id(text):
            return cls(text, id=ImageID.parse(text))
        digits = text.removeprefix("sha256:")
        is_prefix = _PREFIX_MINIMUM <= len(digits) < _ID_LENGTH and _HEX.fullmatch(digits) is not None
        try:
            name = Name.parse(text)
        except InvalidRequest:
            if is_prefix or (len(text) >= _PREFIX_MINIMUM and _ANY_HEX.fullmatch(text)):
                return cls(text, id_prefix=digits if is_prefix else None)
            raise
        return cls(text, id_prefix=digits if is_prefix else None, name=name)


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a client filters a list by: a lookup, or a glob that only some stores understand.

    Attributes:
        text: as the client wrote it, never empty, printable ASCII without white space.
        lookup: the text read as a lookup, or None if it can only be a glob.
    """

    text: str
    lookup: Lookup | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a list filter.

        Raises:
            InvalidRequest: the text is longer than a name may be or holds characters of neither a name nor a glob.
        """
        try:
            return cls(text, Lookup.parse(text))
        except InvalidRequest:
            if len(text) > 2 * _NAME_LENGTH_LIMIT or not _GLOB.fullmatch(text):
                raise
        return cls(text)
