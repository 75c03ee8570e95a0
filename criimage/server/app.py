"""Puts the service together, runs it, and ends it.

    socket -> server -> services -> pulls -> backend

The socket is bound before anything heavy is imported: a client that connects meanwhile waits in its queue instead of
being refused.
"""

from __future__ import annotations

import asyncio
import resource
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from criimage import __version__, logs, metrics, plugins, tracing
from criimage.heap import keep_level, settle
from criimage.lasting import lasting
from criimage.metrics.page import serve_metrics
from criimage.pulls.sharing import Pulls
from criimage.removals import Removals
from criimage.server import systemd
from criimage.server.calls.observe import CallObserver
from criimage.server.calls.traced import TracedCalls
from criimage.server.listening.access import access_of
from criimage.server.listening.socket import BoundSocket
from criimage.server.listening.socket_owner import owner_of
from criimage.server.listening.socket_watch import watch_socket
from criimage.server.reload import Reload, in_force
from criimage.server.server import Server
from criimage.server.services.health import HealthService
from criimage.server.services.images import ImageRef, ImageService
from criimage.server.services.pull_service import PullService
from criimage.server.services.readiness import Readiness
from criimage.server.services.reflection import ReflectionService
from criimage.server.services.removal_service import RemovalService
from criimage.server.services.runtime import RuntimeService
from criimage.server.services.sandbox_pin import SandboxPin
from criimage.server.services.status_service import StatusService
from criimage.server.services.stopping import Stopping
from criimage.server.signals import Signals
from criimage.tracing_otlp import open_traces
from criimage.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from criimage.backend import Backend
    from criimage.server.calls.connection_calls import CallsElsewhere, Observer
    from criimage.server.relay import Relay
    from criimage.settings import Layers, Settings

__all__ = ["Assembly", "run", "serve"]

_log = structlog.get_logger(__name__)

GRACE = 1.0
"""Seconds that calls under way, and removals whose client has gone, get once the server stops; pulls are told at once.

With what a cancelled backend may take after that (`work.CANCEL_SECONDS`) it stays below the 5 s that users rely on.
"""


_SETTLED_SECONDS = 0.3
"""After the start, so that nobody's first list waits for what follows."""

_LOG_SECONDS = 0.5
"""How long a reader of the log that stalls may keep the process from ending."""


class Assembly:
    """One backend with the services in front of it.

    Args:
        backend: open.
        work: entered; runs pulls and removals.
        settings: the core's.
        figures: takes what is measured.
        shown: the effective settings without secrets, for a verbose Status.
        runtime: socket of the runtime whose RuntimeService is relayed; None to answer for it ourselves.
        backend_name: for our own status.

    Attributes:
        server: not started.
        pulls: of the backend.
        removals: of the backend.
        images: the image service.
        pinning: its pins, for reloads.
        readiness: what is wrong.
        relay: to the runtime, not entered; None without one.
    """

    def __init__(
        self,
        backend: Backend,
        work: Work,
        settings: Settings,
        figures: Callable[[list[str]], metrics.Metrics],
        shown: dict[str, Any],
        runtime: Path | None = None,
        backend_name: str = "",
    ) -> None:
        self._stopping = Stopping()
        self.readiness = readiness = Readiness(backend)
        self.pulls = Pulls(backend, work, settings.pulls.policy())
        self.removals = Removals(backend, work, settings.pulls.remove_timeout)
        self.pinning = SandboxPin(settings, lambda pins: self.images.repin(pins))
        pins, image_ref = self.pinning.pins(settings), ImageRef(settings.image_ref)
        self.images = ImageService(backend, self.pulls, self.removals, pins, image_ref)
        self._runtime_service = RuntimeService(readiness, __version__, shown)
        self._status_service = StatusService(readiness, backend_name, runtime, shown)
        methods = [*self.images.methods(), *self._runtime_service.methods()]
        methods += PullService(self.pulls, self._stopping).methods()
        methods += RemovalService(self.removals).methods()
        methods += self._status_service.methods()
        services = sorted({method.service for method in methods})
        methods += HealthService(readiness, services, self._stopping).methods()
        methods += ReflectionService({method.service for method in methods}).methods()
        operations = sorted({method.operation for method in methods} | {"unknown"})
        measured = figures(operations)
        self.pulls.measure_with(measured)
        self.removals.measure_with(measured)
        self.relay: Relay | None = None
        elsewhere: Callable[[], CallsElsewhere] | None = None
        if runtime is not None:
            # Imported where there is a runtime only: time at the start, and memory.
            from criimage.server.relay import Relay, RelayedCalls

            self.relay = Relay(runtime, measured)
            elsewhere = partial(RelayedCalls, self.relay)
        observer: Observer = CallObserver(measured)
        if (traces := tracing.traces()) is not None:
            observer = TracedCalls(observer, traces)
        self.server = Server(methods, observer, settings.limits, elsewhere)
        self._work = work

    def show(self, settings: Mapping[str, Any]) -> None:
        """Show these effective settings, without secrets, from now on."""
        self._runtime_service.show(settings)
        self._status_service.show(settings)

    def connections(self) -> int:
        """Return how many clients are connected."""
        return len(self.server.connections)

    def denied(self) -> int:
        """Return how many connections were made by users who may make no calls."""
        return self.server.denied

    def lists(self) -> tuple[int, int]:
        """Return how many lists of all images were sent as they were kept, and how many were made."""
        return self.images.lists.kept, self.images.lists.made

    async def stop(self) -> None:
        """End well: no new calls, pulls cancelled, the rest gets GRACE to end."""
        end = asyncio.get_running_loop().time() + GRACE
        self.server.stop_accepting()
        self._stopping.begin()
        self.pulls.cancel_all()
        await self.server.finish(GRACE)
        try:
            async with asyncio.timeout_at(end):
                await self._work.drain()
        except TimeoutError:
            _log.warning("work was cut off: it did not end in time")


async def serve(layers: Layers, reread: Callable[[], Layers]) -> None:
    """Serve until SIGTERM or SIGINT.

    SIGHUP reads the settings again: log level, pinned images, the limits of pulls and the allowed users change while
    running; anything invalid is reported and the old ones stay.

    Args:
        layers: settings as read.
        reread: reads them again.

    Raises:
        ConfigurationError: settings, socket or backend do not allow it; nothing was changed.
    """
    settings = layers.settings()
    plugin = plugins.load(settings.backend)
    backend_settings = layers.backend_settings(plugin)
    shown = in_force(settings, plugin.name, backend_settings)
    # The one backend that is a runtime too.
    runtime = settings.runtime_path(backend_settings.endpoint if plugin.name == "cri" else "")
    access = access_of(settings.socket)
    stopped, hung_up = asyncio.Event(), asyncio.Event()
    with Signals(stopped, hung_up) as signals, BoundSocket.open(settings.listen, owner_of(settings.socket)) as bound:
        signals.last_acts.append(bound.close)

        async with plugin.open(backend_settings) as backend, Work() as work, AsyncExitStack() as stack:
            measured: list[metrics.PrometheusMetrics] = []

            def figures(operations: list[str]) -> metrics.Metrics:
                if not settings.metrics.address:
                    return metrics.NoMetrics()
                kinds, aliases = metrics.error_kinds(), settings.metrics.aliases
                measured.append(metrics.PrometheusMetrics(plugin.name, operations, kinds, aliases=aliases))
                return measured[0]

            assembly = Assembly(backend, work, settings, figures, shown, runtime, plugin.name)
            assembly.server.let_in(access)
            reload = Reload(assembly, reread, shown)
            if assembly.relay is not None:
                await stack.enter_async_context(assembly.relay)
            if runtime is not None and not settings.runtime.sandbox_image:
                follow = partial(assembly.pinning.follow, runtime)
                await stack.enter_async_context(lasting(follow, "ask for the sandbox image"))
            for figure in measured:
                figure.look_at(assembly.connections, assembly.lists, assembly.denied)
                await stack.enter_async_context(serve_metrics(settings.metrics.address, figure))
            assembly.server.start(bound.socket)
            _log.info("serving", endpoint=bound.endpoint, backend=plugin.name, version=__version__)
            systemd.ready(f"serving {plugin.name}")
            async with (
                lasting(lambda: reload.when(hung_up), "reload"),
                lasting(lambda: watch_socket(bound, assembly.server.start), "socket"),
                # The first look brings in what the backend has left for later; then the process has what it keeps.
                lasting(partial(assembly.readiness.watch, _SETTLED_SECONDS, settle), "backend check"),
                systemd.watchdog(),
            ):
                await stopped.wait()
            _log.info("stopping")
            systemd.stopping()
            await assembly.stop()
            if (traces := tracing.traces()) is not None:
                # Meanwhile the backend ends; `run` waits for the rest.
                traces.stop()
    _log.info("stopped")


def run(layers: Layers, reread: Callable[[], Layers]) -> None:
    """Run `serve` in an event loop of its own, after what concerns the whole process.

    Logs are set up, core dumps, which could hold secrets, are forbidden, as many descriptors as the machine gives are
    taken, and no more memory is kept than is in use.

    Raises:
        ConfigurationError: as `serve` does.
    """
    keep_level()
    settings = layers.settings()
    logs.set_up(settings.log.level, settings.log.format)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    traces = open_traces(settings.tracing)
    tracing.use(traces)
    try:
        asyncio.run(serve(layers, reread))
    finally:
        if traces is not None:
            traces.finish()
        logs.finish(_LOG_SECONDS)
