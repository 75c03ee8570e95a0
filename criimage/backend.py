"""The contract: what a backend owes criimage, and the values that go in and out.

Who writes a backend reads this page and `criimage.errors`; `criimage.testing.memory` is a complete one in two hundred
lines. A backend is told what to do in values that are valid by construction (`criimage.reference`) and answers in
the frozen values below, never in protobuf messages, dicts or bare strings.

What the core does once for all backends, so that no backend does it: reading names and credentials from requests, the
loop over candidates and which error wins, sharing equal pulls, limits and deadlines, pinning, encoding, metrics, logs,
and the mapping of errors to gRPC. A backend raises only the errors of `criimage.errors`.

Every method may be called concurrently with every other, itself included. All run on the event loop: blocking work
belongs in a thread. Cancelling the task that runs a call stops the work at its source before the cancellation leaves
the method, and leaves nothing behind.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from criimage.credentials import Credentials
    from criimage.reference import ImageID, Lookup, Name, Pattern, Reference

__all__ = [
    "Backend",
    "Examination",
    "Examined",
    "FilesystemUsage",
    "Image",
    "ImageDetails",
    "Limited",
    "Phase",
    "Problem",
    "ProgressReporter",
    "PullContext",
    "PullProgress",
    "RemovalWait",
    "Usage",
    "User",
    "removal_wait",
    "waiting_for",
]


def _nothing() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Image:
    """One stored image as lists show it.

    Attributes:
        id: unique in the store.
        tags: every `repository:tag` of the image, sorted.
        digests: every `repository@digest`: each stored manifest digest (index and instance) with each repository that
            names it, the one that the registry answered for first, then the instance.
        size: bytes, at least 1: clients reject 0.
        pinned: the store itself wants the image kept. The operator's pins are the core's.
    """

    id: ImageID
    tags: tuple[Reference, ...] = ()
    digests: tuple[Reference, ...] = ()
    size: int = 1
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class User:
    """The user an image starts as: exactly one of the two fields is set.

    Attributes:
        uid: numeric ID, 0 included.
        name: a user name, where the image gives no number.
    """

    uid: int | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class ImageDetails:
    """One stored image as a status shows it.

    Attributes:
        image: the very value that `Backend.images` lists, or one equal to it.
        user: None where the image does not say.
        annotations: the manifest's annotations, for `Image.spec`.
        info: what a verbose status adds; a value that begins with `{` is a JSON object. Empty unless asked for.
    """

    image: Image
    user: User | None = None
    annotations: Mapping[str, str] = field(default_factory=_nothing, hash=False)
    info: Mapping[str, str] = field(default_factory=_nothing, hash=False)


@dataclass(frozen=True, slots=True)
class PullContext:
    """What a request says about who wants the image; empty where it says nothing.

    Attributes:
        namespace: the pod's namespace.
        pod: the pod's name.
        annotations: of the image spec; a kubelet puts all annotations of the pod there.
        runtime_handler: the runtime class's handler the image is meant for.
        sandbox: the PodSandboxConfig as encoded by the client, for a backend that forwards it.
    """

    namespace: str = ""
    pod: str = ""
    annotations: Mapping[str, str] = field(default_factory=_nothing, hash=False)
    runtime_handler: str = ""
    sandbox: bytes = b""


class Phase(enum.Enum):
    """Where a pull stands.

    In RESOLVING and DOWNLOADING the registry owes the next byte, and its silence has a limit. In UNPACKING and
    WAITING_FOR_STORE the store does, or the engine: a lock that others hold, a removal that runs, a disk that is slow.
    That has a limit of its own, and no registry is blamed for it.
    """

    QUEUED = "queued"
    RESOLVING = "resolving"
    DOWNLOADING = "downloading"
    UNPACKING = "unpacking"
    WAITING_FOR_STORE = "waiting-for-store"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PullProgress:
    """A snapshot of a running pull.

    Attributes:
        phase: see Phase.
        bytes_done: compressed bytes that have arrived, never less than before in one pull.
        bytes_total: compressed bytes to fetch, without what is here already; None while unknown.
        layers_done: layers complete.
        layers_total: layers to fetch; None while unknown.
        activity: any number that changes while work goes on that moves none of the others, such as unpacking. In
            WAITING_FOR_STORE it does not count: that wait is limited as a whole.
        layers_reused: layers that were here already; None while unknown.
        unchanged: nothing was fetched, because the registry has exactly what is here.
        credential_source: where the credentials that were used come from, such as `request` or a file's path; empty
            where the backend does not know. Never the credentials.
        retry_after: seconds that the registry asked to wait when it refused (429); None unless it is that which the
            pull waits for. No progress: a pull that is cut off then is RateLimited, with these seconds.
    """

    phase: Phase = Phase.RESOLVING
    bytes_done: int = 0
    bytes_total: int | None = None
    layers_done: int = 0
    layers_total: int | None = None
    activity: int = 0
    layers_reused: int | None = None
    unchanged: bool = False
    credential_source: str = ""
    retry_after: int | None = None


ProgressReporter = Callable[[PullProgress], None]
"""Takes a snapshot; never blocks, never raises. A backend calls it as often as it learns something, up to some times a
second."""


@dataclass(slots=True)
class RemovalWait:
    """What one removal waits for now; the core makes it, `waiting_for` changes it."""

    what: str


removal_wait: ContextVar[RemovalWait | None] = ContextVar("removal_wait", default=None)
"""Of the removal that runs in this context; None elsewhere."""


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Say inside `Backend.remove` what it waits for until the block is left.

    Operators see it, and the caller of a removal that takes too long is told. Elsewhere it does nothing.

    Args:
        what: a few words of your own that read well behind "waited for", such as `the pulls that run` or
            `the store's lock`; never foreign text, a time or a number: it becomes part of an error.
    """
    wait = removal_wait.get()
    if wait is None:
        yield
        return
    before, wait.what = wait.what, what
    try:
        yield
    finally:
        wait.what = before


@dataclass(frozen=True, slots=True)
class FilesystemUsage:
    """What image data takes on one file system.

    Attributes:
        mountpoint: absolute path of an existing directory on that file system.
        used_bytes: bytes of image data on disk.
        inodes_used: number of files, or None where that is unknown.
        timestamp: when it was measured, nanoseconds since the epoch.
    """

    mountpoint: str
    used_bytes: int
    inodes_used: int | None
    timestamp: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Disk usage; neither tuple is empty, and they are equal unless images and containers lie apart."""

    images: tuple[FilesystemUsage, ...]
    containers: tuple[FilesystemUsage, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps a backend from working here.

    Attributes:
        text: what is wrong, one line.
        remedy: what the operator can do, one line.
    """

    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Examination:
    """What a backend found out about its configuration by trying it.

    Attributes:
        problems: that `check` has not told.
        facts: worth knowing, one line each, such as the files that were read.
    """

    problems: tuple[Problem, ...] = ()
    facts: tuple[str, ...] = ()


@runtime_checkable
class Examined(Protocol):
    """A backend that can try out its configuration without touching its store and without any network.

    `criimage config check` asks it after `check`; nothing else does.
    """

    async def examine(self) -> Examination:
        """Try it out; may take some seconds, and leaves nothing behind."""
        ...


@runtime_checkable
class Limited(Protocol):
    """A backend whose store may not let it keep all of the contract.

    `criimage config check` prints what it tells; nothing else depends on it.
    """

    async def limits(self) -> tuple[Problem, ...]:
        """Tell what the store here cannot be brought to do, and what to do about it; asked after `check`."""
        ...


@runtime_checkable
class Backend(Protocol):
    """A store of images and the means to fill it.

    Opened by its plugin as an async context manager; no method is called before it is entered or after it is left.
    """

    @property
    def reports_progress(self) -> bool:
        """Whether `pull` reports enough that silence means a stall."""
        ...

    async def check(self) -> tuple[Problem, ...]:
        """Tell what is missing for the backend to work, empty if nothing; milliseconds, asked every few seconds.

        The first time is a moment after the start. What a backend imports or opens then, instead of when it is opened,
        no first list waits for, and whatever it cannot import is told at once.
        """
        ...

    async def resolve(self, name: Name) -> tuple[Reference, ...]:
        """Return the references that a name may mean, the best first, without duplicates, at least one.

        A name with a registry means exactly itself.

        Raises:
            InvalidRequest: no registry is configured for a short name, or the configuration finds it ambiguous.
        """
        ...

    async def images(self, pattern: Pattern | None = None) -> tuple[Image, ...]:
        """List the stored images, each once, in an order that does not change by itself.

        Without a pattern **the same tuple is returned while nothing has changed**: the server then reuses the encoded
        answer. A new tuple of equal images is slower, never wrong. Never waits for a pull, by whatever tool.
        An image that cannot be read is left out, never a reason to fail. What `pull` and `remove` did is seen by
        every call that starts after they returned.

        Args:
            pattern: list only what it matches, each image with all its names; a store that knows no globs answers by
                the rules of `status`, with nothing for a glob.

        Raises:
            BackendUnavailable: the daemon does not answer.
        """
        ...

    async def status(self, lookup: Lookup, *, verbose: bool = False) -> ImageDetails | None:
        """Return the image that the lookup finds, or None: then whoever really knows has said that it is not there.

        ID, prefix of an ID, tag and digest all find it and give equal answers. An ambiguous prefix finds nothing.

        Args:
            lookup: a full ID, else a name and the prefix of an ID, in the order of the runtime beside the store (see
                Lookup); a name by its candidates in order.
            verbose: fill `ImageDetails.info`.

        Raises:
            BackendUnavailable: the daemon does not answer.
        """
        ...

    async def pull(
        self,
        reference: Reference,
        credentials: Credentials | None,
        context: PullContext,
        report: ProgressReporter,
    ) -> Image:
        """Make the image that the registry has under `reference` present, and return it as `images` now lists it.

        The registry is always asked, with exactly these credentials, also where everything is here already: success
        means that the caller may have the image. None means anonymous, or what the machine's own files provide.
        After success `status` finds the image by `reference`, and the name has left any image that had it before.
        After an error or a cancel the store holds what it held before and no temporary file is left; layers that other
        images share or a retry can use may stay where the store itself keeps and reclaims such layers.

        Raises:
            PullError: one of its kinds, by situation.
            StorageFull: no space.
            BackendUnavailable: the daemon does not answer.
        """
        ...

    async def remove(self, lookup: Lookup) -> None:
        """Remove the image that the lookup finds, with all its names; that nothing is found is success.

        When it returns, `images` and `status` show the image no more; disk space may follow later. Concurrent removals
        of one image all succeed. After an error nothing was removed, not even a name. A removal that takes too long, or
        that the operator ends, is cancelled: when the cancellation has left the method no tool and no lock of it is
        left, and the image is whole, or gone, or is listed and goes with the next removal; no name is lost in silence.
        What it waits for is told by `waiting_for`.

        Raises:
            ImageInUse: a container uses it.
            ReadOnlyImage: it lies in a read-only store.
            BackendUnavailable: the daemon does not answer.
        """
        ...

    async def usage(self) -> Usage:
        """Return what the images take on disk: true figures, seconds old at most, at once however large the store.

        Raises:
            BackendUnavailable: the daemon does not answer and no figures are known.
        """
        ...
