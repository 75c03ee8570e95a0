"""Has the runtime pull an image."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import structlog

from criimage import wire
from criimage.backend import Phase, PullProgress
from criimage.channel import CallError
from criimage.errors import InvalidRequest, OperationFailed
from criimage.masking import Secrets
from criimage.reference import ImageID
from criimage_cri.failures import pull_failure
from criimage_cri.records import fields_of, text

if TYPE_CHECKING:
    from criimage.backend import Image, ImageDetails, ProgressReporter, PullContext
    from criimage.credentials import Credentials
    from criimage.reference import Reference
    from criimage_cri.progress import ProgressWatch
    from criimage_cri.runtimes import Runtime
    from criimage_cri.upstream import Upstream
    from criimage_cri.view import View

__all__ = ["Puller"]

_log = structlog.get_logger(__name__)


class Puller:
    """Has one runtime pull images.

    Args:
        upstream: the runtime.
        view: what it has.
        watch: reports progress where the runtime tells of downloads.
        allow_unproven: whether a pull may succeed about which the registry was not asked.
    """

    def __init__(self, upstream: Upstream, view: View, watch: ProgressWatch, *, allow_unproven: bool) -> None:
        self._upstream = upstream
        self._view = view
        self._watch = watch
        self._allow_unproven = allow_unproven

    async def pull(
        self,
        reference: Reference,
        credentials: Credentials | None,
        context: PullContext,
        report: ProgressReporter,
    ) -> Image:
        """Pull one reference; see the contract."""
        runtime = await self._upstream.runtime()
        request = _request(reference, credentials, context, runtime)
        asked = runtime.proves_digests or not await self._is_here_by_digest(reference)
        if not asked:
            self._unproven(reference)
        source = "request" if credentials is not None and asked else ""
        try:
            if self._upstream.tells_downloads:
                async with self._watch.of(reference, report, source):
                    answer = await self._upstream.pull(request)
            else:
                report(PullProgress(Phase.DOWNLOADING, credential_source=source))
                answer = await self._upstream.pull(request)
        except CallError as error:
            raise pull_failure(error, reference, Secrets.of(credentials)) from error
        details = await self._pulled(text(fields_of(answer)[1]))
        if details is None:
            raise OperationFailed(f"the image was removed as soon as it was pulled: {reference}")
        return details.image

    async def _is_here_by_digest(self, reference: Reference) -> bool:
        return reference.digest is not None and await self._view.ask(str(reference)) is not None

    def _unproven(self, reference: Reference) -> None:
        if not self._allow_unproven:
            raise OperationFailed(
                f"{reference} is here, and cri-dockerd would not ask the registry who may pull it: "
                "allow_unproven_pulls is not set"
            )
        _log.warning("the registry is not asked: the pull proves no access", reference=str(reference))

    async def _pulled(self, image_ref: str) -> ImageDetails | None:
        """Find what was pulled by what the runtime answered: an ID or, from older ones, a digest in a repository."""
        try:
            identity = ImageID.parse(image_ref)
        except ValueError:
            return await self._view.ask(image_ref)
        return await self._view.with_id(identity)


def _request(reference: Reference, credentials: Credentials | None, context: PullContext, runtime: Runtime) -> bytes:
    """Return a PullImageRequest: what the client sent, but for names in full and credentials decoded."""
    spec = wire.text_field(1, str(reference))
    for key, value in context.annotations.items():
        spec += wire.length_delimited(2, wire.text_field(1, key) + wire.text_field(2, value))
    if context.runtime_handler:
        spec += wire.text_field(19, context.runtime_handler)
    request = wire.length_delimited(1, spec)
    if credentials is not None:
        request += wire.length_delimited(2, _auth(credentials, runtime))
    if context.sandbox:
        request += wire.length_delimited(3, context.sandbox)
    return request


def _auth(credentials: Credentials, runtime: Runtime) -> bytes:
    """Return an AuthConfig. Its server address stays empty: the core has compared it already (design 4)."""
    username, password = (_raw(part) for part in (credentials.username, credentials.password))
    fields = [(1, username), (2, password)]
    if not (_is_utf8(username) and _is_utf8(password)):
        # A string field holds UTF-8 only; this one holds any bytes.
        if not runtime.sends_auth:
            raise InvalidRequest("cri-dockerd takes no credentials that are not UTF-8")
        fields = [(3, base64.b64encode(username + b":" + password))]
    fields += [(5, _raw(credentials.identity_token)), (6, _raw(credentials.registry_token))]
    return b"".join(wire.length_delimited(number, value) for number, value in fields if value)


def _raw(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
