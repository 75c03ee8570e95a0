"""The engine as this backend talks to it: aiodocker's clients, the API version, and what their failures mean.

aiodocker 0.27 is used where it can be and worked around where it cannot (A1-A6): pulls, events and disk usage are
requests of our own over its session, so that the response is ours to close; pulls and events have a client of their own
without a limit on connections, because a hundred pulls that hang would otherwise leave none for a list (A3); the API
version is negotiated here, because aiodocker asks once and keeps the answer for ever (A5).

Names go into its URLs as they are, and `..` is folded there (G7). So the calls below take a Reference or an ImageID,
and no text.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import aiodocker
import aiohttp
from aiodocker.exceptions import DockerError

from criimage import tracing
from criimage.errors import BackendUnavailable
from criimage.foreign_json import parse
from criimage_docker.engine.answers import Refusal, container_name, nonsense, object_of, objects_of, words_of
from criimage_docker.engine.bounded_response import AnswerTooLong, BoundedResponse
from criimage_docker.engine.features import Features
from criimage_docker.engine.words import tidy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from criimage.reference import ImageID, Reference
    from criimage_docker.engine.address import Address

__all__ = ["Engine", "PingReply"]

T = TypeVar("T")

_NEWEST = (1, 51)
_OLDEST = (1, 30)
"""Of the API, what this backend was written for; engines in between are taken at their own version. The least is what
has the distribution endpoint, without which a pull by digest cannot be proven."""

_CONNECT_SECONDS = 5.0
_PING_SECONDS = 2.0
_SHORT_CONNECTIONS = 100
_LIST_AGAIN = (0.02, 0.1, 0.3, 0.6)
"""Seconds before a list is asked for again that failed because an image went away."""
_BAD_REQUEST = 400
_NO_CONNECTION = 900
"""What aiodocker calls the status of a request that found nobody (A5)."""

_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})")
_MINIMUM = re.compile(r"[Mm]inimum supported API version is (\d{1,4})\.(\d{1,4})")


@dataclass(frozen=True, slots=True)
class PingReply:
    """What a ping tells.

    Attributes:
        date: the engine's clock, seconds since the epoch, or None if it does not say.
        version: the API version that will be spoken.
    """

    date: float | None
    version: tuple[int, int]


class Engine:
    """One engine, which may be down, restarted or replaced at any time. To be closed after use.

    Every call raises BackendUnavailable if the engine does not answer (in time), and Refusal if it answers with an
    error; the next call tries again.

    Args:
        address: where it listens.
        timeout: seconds for any call that is no stream (G2).
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self.address = address
        self._timeout = timeout
        self._pools = (address.connector(_SHORT_CONNECTIONS), address.connector(0))
        self._sessions = tuple(
            aiohttp.ClientSession(
                connector=pool,
                connector_owner=False,
                response_class=BoundedResponse,
                timeout=aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS),
                trace_configs=[] if tracing.traces() is None else [_telling_the_trace()],
            )
            for pool in self._pools
        )
        self._short, self._long = (
            aiodocker.Docker(address.base, connector=pool, session=session)
            for pool, session in zip(self._pools, self._sessions, strict=True)
        )
        self._version: tuple[int, int] | None = None
        self._offered: tuple[int, int] | None = None
        self._minimum = _OLDEST
        self._features: Features | None = None

    async def close(self) -> None:
        """Close every connection; what still runs fails."""
        for docker, session, pool in zip((self._short, self._long), self._sessions, self._pools, strict=True):
            await docker.close()
            await session.close()
            await pool.close()

    async def ping(self) -> PingReply:
        """Ask whether the engine is there, two seconds long at most, and settle on an API version."""
        try:
            async with (
                asyncio.timeout(min(_PING_SECONDS, self._timeout)),
                self._short.session.get(f"{self._short.docker_host}/_ping") as response,
            ):
                body = await response.read()
                status, headers = response.status, response.headers
        except (aiohttp.ClientError, OSError) as error:
            raise self._unavailable(error) from error
        except AnswerTooLong as error:
            raise BackendUnavailable(f"what answers at {self.address.shown} is no Docker engine") from error
        if status != 200:
            said = tidy(words_of(body, status))
            raise BackendUnavailable(f"the Docker engine at {self.address.shown} is not well: {said}")
        offered = _VERSION.fullmatch(headers.get("Api-Version", ""))
        if offered is None:
            raise BackendUnavailable(f"what answers at {self.address.shown} is no Docker engine")
        newest = (int(offered[1]), int(offered[2]))
        if newest != self._offered:
            # Another engine: what the last one wanted at least is not known of this one.
            self._offered, self._minimum = newest, _OLDEST
        version = max(min(newest, _NEWEST), self._minimum)
        if newest < _OLDEST:
            raise BackendUnavailable(
                f"the Docker engine at {self.address.shown} is too old: it speaks API {offered[0]} at most, and"
                f" {_shown(_OLDEST)} is needed"
            )
        self._speak(version)
        return PingReply(_date(headers.get("Date", "")), version)

    async def version(self) -> tuple[int, int]:
        """Return the API version that is spoken with the engine."""
        return self._version or (await self.ping()).version

    async def features(self) -> Features:
        """Return what this engine has; asked once until it has not answered or another version answers."""
        if self._features is None or self._features.version != self._version:
            info = await self.info()
            self._features = Features.of(await self.version(), info)
        return self._features

    # -- short calls ------------------------------------------------------------------------------------------------

    async def images(self, reference: str = "", *, hidden: bool = False) -> list[dict[str, Any]]:
        """Return the engine's list of images (L1, L2).

        With the containerd store an engine (26.1, tried) fails to list while another image is being removed: then it is
        asked again.

        Args:
            reference: a filter; everything if empty.
            hidden: with the nameless images that others were built on.
        """
        filters = {"reference": [reference]} if reference else None
        for wait in _LIST_AGAIN:
            try:
                return objects_of(await self._call(lambda docker: docker.images.list(all=hidden, filters=filters)))
            except Refusal as refusal:
                if "not found" not in refusal.message and "failed to get rootfs" not in refusal.message:
                    raise
            await asyncio.sleep(wait)
        return objects_of(await self._call(lambda docker: docker.images.list(all=hidden, filters=filters)))

    async def inspect(self, image: ImageID | Reference) -> dict[str, Any]:
        """Return what the engine knows about one image."""
        return object_of(await self._call(lambda docker: docker.images.inspect(str(image))))

    async def inspect_prefix(self, digits: str) -> dict[str, Any]:
        """Return what the engine knows about the one image whose ID begins so; it looks for a name first.

        Args:
            digits: hexadecimal (`Lookup.id_prefix`), so nothing that could turn a URL.
        """
        return object_of(await self._call(lambda docker: docker.images.inspect(digits)))

    async def distribution(self, reference: Reference, auth: str) -> None:
        """Have the engine ask the registry for a manifest with somebody's credentials.

        Without a time limit, as a pull: whoever cancels it ends the question. A Refusal is the registry's, passed on.

        Args:
            reference: what to ask for.
            auth: the X-Registry-Auth header.
        """
        path = f"distribution/{reference}/json"
        async with self.stream("GET", path, {}, {"X-Registry-Auth": auth}) as chunks:
            async for _ in chunks:
                pass

    async def history(self, image: ImageID) -> list[dict[str, Any]]:
        """Return the image's history, the newest step first."""
        return objects_of(await self._call(lambda docker: docker.images.history(str(image))))

    async def delete(self, image: ImageID | Reference) -> None:
        """Delete one name, or an image that has no other; never by force (R3)."""
        await self._call(lambda docker: docker.images.delete(str(image)))

    async def tag(self, image: ImageID, reference: Reference) -> None:
        """Give an image a tag."""
        await self._call(lambda docker: docker.images.tag(str(image), reference.repository, tag=reference.tag))

    async def containers_of(self, image: ImageID) -> list[str]:
        """Return the names of the containers, running or not, that were made of exactly this image (R9)."""
        filters = json.dumps({"ancestor": [str(image)]})
        found = objects_of(await self._json("containers/json", {"all": "1", "filters": filters}))
        # The filter finds containers of images built on this one as well.
        own = [one for one in found if one.get("ImageID") == str(image)]
        return sorted(container_name(one) for one in own)

    async def info(self) -> Mapping[str, Any]:
        """Return what the engine says about itself."""
        return object_of(await self._call(lambda docker: docker.system.info()))

    async def disk_usage(self) -> dict[str, Any]:
        """Return the engine's account of its disk, for images alone where it can be asked for them alone."""
        only_images = {"type": "image"} if await self.version() >= (1, 42) else {}
        return object_of(await self._json("system/df", only_images))

    async def _json(self, path: str, parameters: Mapping[str, str]) -> Any:  # noqa: ANN401 - JSON
        """Get JSON for which aiodocker has no call, or one that loses parts of the answer."""

        async def ask(docker: aiodocker.Docker) -> Any:  # noqa: ANN401
            url = f"{docker.docker_host}/{docker.api_version}/{path}"
            async with docker.session.get(url, params=parameters) as response:
                body = await response.read()
                if response.status >= _BAD_REQUEST:
                    raise Refusal(response.status, words_of(body, response.status))
                return parse(body)

        return await self._call(ask)

    async def _call(self, ask: Callable[[aiodocker.Docker], Awaitable[T]]) -> T:
        """Ask, with the version renegotiated once if the engine turns out to be another one (A5)."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._negotiated(lambda: self._translated(ask))
        except TimeoutError as error:
            raise BackendUnavailable(
                f"the Docker engine at {self.address.shown} did not answer in {self._timeout:g} s"
            ) from error

    async def _negotiated(self, ask: Callable[[], Awaitable[T]]) -> T:
        await self.version()
        try:
            return await ask()
        except Refusal as refusal:
            if not self._other_version(refusal):
                raise
        return await ask()

    async def _translated(self, ask: Callable[[aiodocker.Docker], Awaitable[T]]) -> T:
        try:
            return await ask(self._short)
        except DockerError as error:
            if error.status == _NO_CONNECTION:
                raise self._unavailable(error.__context__ or error) from error
            raise Refusal(error.status, words_of(str(error.message).encode(), error.status)) from error
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise self._unavailable(error) from error
        except (ValueError, RecursionError) as error:
            raise nonsense(str(error)) from error

    # -- streams ----------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str, path: str, parameters: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a stream without a time limit, and close its connection on leaving, whatever the reason.

        Closing is what makes the engine stop a pull, within half a second (P20); aiodocker would leave it running (A2).

        Args:
            method: of HTTP.
            path: below the version; never made of a client's text but for a Reference.
            parameters: of the query, not escaped yet.
            headers: on top of aiohttp's own.

        Yields:
            the bytes as they come; ends with the stream, raises BackendUnavailable if the connection breaks.
        """
        response = await self._negotiated(lambda: self._opened(method, path, parameters, headers))
        try:
            yield self._chunks(response)
        finally:
            response.close()

    async def _opened(
        self, method: str, path: str, parameters: Mapping[str, str], headers: Mapping[str, str] | None
    ) -> aiohttp.ClientResponse:
        docker = self._long
        url = f"{docker.docker_host}/{docker.api_version}/{path}"
        forever = aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS)
        try:
            response = await docker.session.request(method, url, params=parameters, headers=headers, timeout=forever)
            if response.status < _BAD_REQUEST:
                return response
            async with response:
                body = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise self._unavailable(error) from error
        except AnswerTooLong as error:
            raise nonsense(str(error)) from error
        raise Refusal(response.status, words_of(body, response.status))

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            async for chunk in response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise BackendUnavailable(
                f"the Docker engine at {self.address.shown} ended in the middle of its answer"
            ) from error

    # -- failures ---------------------------------------------------------------------------------------------------

    def _other_version(self, refusal: Refusal) -> bool:
        """Tell whether the engine only wants another API version, and settle on that."""
        if refusal.status != _BAD_REQUEST or not refusal.message.startswith("client version"):
            return False
        least = _MINIMUM.search(refusal.message)
        wanted = least or _VERSION.search(refusal.message.partition(" is too new")[2])
        if wanted is None:
            return False
        version = int(wanted[1]), int(wanted[2])
        if least is not None:
            self._minimum = version
        self._speak(version)
        return True

    def _speak(self, version: tuple[int, int]) -> None:
        self._version = version
        self._short.api_version = self._long.api_version = f"v{version[0]}.{version[1]}"

    def _unavailable(self, error: BaseException) -> BackendUnavailable:
        # What comes back may be another engine.
        self._features = None
        where = self.address.shown
        if isinstance(error, TimeoutError):
            return BackendUnavailable(f"the Docker engine at {where} does not answer")
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            return BackendUnavailable(f"cannot connect to the Docker engine at {where}: its TLS is not accepted")
        system = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        reason = system.strerror if isinstance(system, OSError) and system.strerror else "the connection was closed"
        return BackendUnavailable(f"cannot connect to the Docker engine at {where}: {reason.lower()}; is it running?")


def _telling_the_trace() -> aiohttp.TraceConfig:
    """Return what puts the current call's or pull's trace on each request."""

    async def begun(
        _session: aiohttp.ClientSession, _context: object, request: aiohttp.TraceRequestStartParams
    ) -> None:
        request.headers.update(tracing.outgoing())

    config = aiohttp.TraceConfig()
    config.on_request_start.append(begun)
    return config


def _shown(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _date(header: str) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(header).timestamp()
    except (ValueError, OverflowError):
        return None
