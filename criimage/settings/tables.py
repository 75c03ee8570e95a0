"""What can be set: a model for each table, with every key's default, bounds and explanation.

A backend's own table is its own model's; here it is only known to be one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from criimage.duration import Duration
from criimage.endpoint import DEFAULT_ENDPOINT, PASSED_SOCKET, socket_path
from criimage.errors import ConfigurationError, CriimageError
from criimage.pulls.policy import PullPolicy, RegistryPolicy
from criimage.reference import Name, registry_host

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LimitSettings", "Settings", "SocketSettings", "TracingSettings"]

_PORT_LIMIT = 65535
_PORT = re.compile(r":0*([0-9]+)$")
_PORT_DIGITS = 6
"""Enough to tell that a longer number is no port."""
NO_RUNTIME = "none"
"""The setting that asks for an image service only, whatever the backend."""


def _no_truth_value(value: Any) -> Any:  # noqa: ANN401 - whatever stands in the settings
    # To Python true is the number 1.
    if isinstance(value, bool):
        raise PydanticCustomError("float_type", "a number")
    return value


Count = Annotated[int, BeforeValidator(_no_truth_value)]
Number = Annotated[float, BeforeValidator(_no_truth_value)]


def _can_match(host: str) -> str:
    try:
        name = Name.parse(f"{host}/x")
        fits = name.domain is not None and name.qualified(name.domain).domain == host
    except CriimageError:
        fits = False
    if not fits:
        raise ValueError("is the registry of no image; HOST or HOST:PORT as in full names of images")
    port = _PORT.search(host)
    if port is not None and not 0 < int(port[1][:_PORT_DIGITS]) <= _PORT_LIMIT:
        raise ValueError(f"is the registry of no image: ports go from 1 to {_PORT_LIMIT}")
    return host


RegistryKey = Annotated[str, AfterValidator(_can_match)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MetricsSettings(_Section):
    """The table `[metrics]`."""

    address: str = Field(
        default="", description='HOST:PORT to serve /metrics at, such as "127.0.0.1:9477"; empty = off'
    )

    aliases: bool = Field(
        default=False, description="show what CRI-O and containerd have too under their names as well"
    )

    @field_validator("address")
    @classmethod
    def _has_host_and_port(cls, address: str) -> str:
        host, _, port = address.rpartition(":")
        if address and not (host and port.isascii() and port.isdecimal() and int(port) <= _PORT_LIMIT):
            raise ValueError("not of the form HOST:PORT")
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            raise ValueError(f"an IPv6 address stands in brackets: [{host}]:{port}")
        return address


class RegistryPullSettings(_Section):
    """A table `[pulls.registry."HOST"]`: what is set here wins over `[pulls]` for this registry."""

    progress_timeout: Duration | None = Field(default=None, description="as in [pulls]")
    store_timeout: Duration | None = Field(default=None, description="as in [pulls]")
    total_timeout: Duration | None = Field(default=None, description="as in [pulls]")
    max_parallel: Count | None = Field(default=None, ge=0, description="pulls from this registry at once; 0 = no limit")


class PullSettings(_Section):
    """The table `[pulls]`."""

    progress_timeout: Duration = Field(
        default=60.0,
        description="a pull whose registry is silent for so long is cut off; 0s = never; only where the backend "
        "reports progress; waiting for the store does not count",
    )
    store_timeout: Duration = Field(
        default=600.0,
        description="a pull that waits for the store or the engine for so long is cut off, and says so; 0s = never",
    )
    remove_timeout: Duration = Field(
        default=100.0, gt=0, description="a removal that takes longer is stopped, told, and the image looked at again"
    )
    total_timeout: Duration = Field(default=0.0, description="a pull that takes longer is cut off; 0s = never")
    max_parallel: Count = Field(default=0, ge=0, description="pulls at once; the rest queue, visibly; 0 = no limit")
    max_parallel_per_registry: Count = Field(
        default=0, ge=0, description="pulls from one registry at once; 0 = no limit"
    )
    registry: dict[RegistryKey, RegistryPullSettings] = Field(
        default_factory=dict, description='a table [pulls.registry."HOST"] sets any of these for one registry'
    )

    @field_validator("registry")
    @classmethod
    def _are_different(cls, registry: dict[str, RegistryPullSettings]) -> dict[str, RegistryPullSettings]:
        spelled: dict[str, str] = {}
        faults: list[InitErrorDetails] = []
        for host in registry:
            other = spelled.setdefault(registry_host(host), host)
            if other != host:
                fault = ValueError(f'"{other}" and "{host}" are the same registry')
                # With the key as its place.
                faults.append(InitErrorDetails(type="value_error", loc=(host,), input={}, ctx={"error": fault}))
        if faults:
            raise ValidationError.from_exception_data("registry", faults)
        return registry

    def policy(self) -> PullPolicy:
        """Return the limits as pulls keep them."""
        default = RegistryPolicy(
            self.progress_timeout, self.total_timeout, self.max_parallel_per_registry, self.store_timeout
        )
        own = {registry_host(host): _registry_policy(table, default) for host, table in self.registry.items()}
        return PullPolicy(default, own, self.max_parallel)


def _registry_policy(own: RegistryPullSettings, default: RegistryPolicy) -> RegistryPolicy:
    return RegistryPolicy(
        default.progress_timeout if own.progress_timeout is None else own.progress_timeout,
        default.total_timeout if own.total_timeout is None else own.total_timeout,
        default.parallel if own.max_parallel is None else own.max_parallel,
        default.store_timeout if own.store_timeout is None else own.store_timeout,
    )


class LimitSettings(_Section):
    """The table `[limits]`: what clients may do; takes effect at a start."""

    connections: Count = Field(
        default=1000, ge=1, description="connections at once, fewer where the descriptors do not suffice"
    )
    streams: Count = Field(default=1000, ge=1, le=100_000, description="calls at once on one connection")
    request_timeout: Duration = Field(default=60.0, gt=0, description="a request must have come completely by then")
    incomplete_requests: Count = Field(
        default=5000, ge=1, description="requests that have not come completely, of all connections"
    )
    buffered_bytes: Count = Field(
        default=256 * 2**20, ge=32 * 2**20, description="bytes of incomplete requests kept, of all connections"
    )
    buffered_bytes_per_connection: Count = Field(
        default=64 * 2**20, ge=32 * 2**20, description="bytes of incomplete requests kept, of one connection"
    )
    frames: Count = Field(
        default=5000,
        ge=100,
        description="frames that do nothing (pings, settings, tiny data ...) on one connection at once; a fifth of it "
        "comes back each second, and each answer allows some more",
    )
    resets: Count = Field(
        default=1000, ge=10, description="calls reset on one connection at once; a fifth of it comes back each second"
    )


class RuntimeSettings(_Section):
    """The table `[runtime]`."""

    endpoint: str = Field(
        default="",
        description="unix:///path of a CRI runtime whose RuntimeService is relayed, so that one socket is enough for a "
        'kubelet; empty: with backend cri that runtime, otherwise none; "none": image service only',
    )

    sandbox_image: str = Field(
        default="",
        description="the image that the runtime's pods begin with, shown pinned; empty: as the runtime's Status tells",
    )

    @field_validator("endpoint")
    @classmethod
    def _is_an_endpoint(cls, endpoint: str) -> str:
        return _checked_endpoint(endpoint) if endpoint not in {"", NO_RUNTIME} else endpoint


class SocketSettings(_Section):
    """The table `[socket]`: who may connect; owner and group count at a start, and not for a socket of systemd's."""

    owner: str = Field(default="", description="user who owns the socket, by name or number; empty: who runs criimage")
    group: str = Field(
        default="",
        description="group that may connect too, by name or number; empty: that of who runs criimage",
    )
    allowed_users: tuple[str | int, ...] = Field(
        default=(),
        description="users whose calls are answered, by name or number, whatever the socket's mode lets through; "
        "everybody else is told PERMISSION_DENIED; empty: whoever can open the socket",
    )

    @field_validator("allowed_users", mode="before")
    @classmethod
    def _are_users(cls, users: object) -> object:
        for number, user in enumerate(users if isinstance(users, list | tuple) else (), 1):
            if isinstance(user, bool) or not isinstance(user, str | int) or user in {"", -1}:
                raise ValueError(f"entry {number} is neither the name nor the number of a user")
        return users


class TracingSettings(_Section):
    """The table `[tracing]`: what goes to an OpenTelemetry collector; takes effect at a start."""

    endpoint: str = Field(
        default="",
        description='where a collector takes spans over OTLP/HTTP, such as "http://127.0.0.1:4318"; needs '
        "criimage[tracing]; empty: OTEL_EXPORTER_OTLP_ENDPOINT, and off where that is not set either",
    )
    sample_ratio: Number = Field(
        default=1.0,
        ge=0,
        le=1,
        description="part of the traces that begin here which are kept; one that a caller has begun is kept as it says",
    )

    @field_validator("endpoint")
    @classmethod
    def _is_a_url(cls, endpoint: str) -> str:
        if not endpoint:
            return endpoint
        try:
            url = urlsplit(endpoint)
            fits = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
        except ValueError:
            raise ValueError("not of the form http://HOST:PORT") from None
        if not fits or url.query or url.fragment:
            raise ValueError("not of the form http://HOST:PORT")
        if "@" in url.netloc:
            raise ValueError("no credentials here: they belong in OTEL_EXPORTER_OTLP_HEADERS")
        return endpoint


class LogSettings(_Section):
    """The table `[log]`."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )
    format: Literal["text", "json"] = Field(default="text", description="text or json")


class Settings(_Section):
    """Everything but the backends' own tables, which each backend's model reads."""

    listen: str = Field(default=DEFAULT_ENDPOINT, description="unix:///path, or fd:// for a socket passed by systemd")
    backend: str = Field(
        default="containers-storage", description="a backend that is installed: see `criimage backends`"
    )
    image_ref: Literal["auto", "id", "repo-digest"] = Field(
        default="auto",
        description="what a pull answers: the image's ID, its digest in the asked repository, or (auto) the ID on v1 "
        "and the digest on v1alpha2",
    )
    pinned_images: tuple[str, ...] = Field(
        default=(),
        description="names that image garbage collection leaves alone; word* and *word* match anywhere in a name",
    )
    runtime: RuntimeSettings = RuntimeSettings()
    pulls: PullSettings = PullSettings()
    limits: LimitSettings = LimitSettings()
    socket: SocketSettings = SocketSettings()
    metrics: MetricsSettings = MetricsSettings()
    tracing: TracingSettings = TracingSettings()
    log: LogSettings = LogSettings()
    backends: dict[str, dict[str, Any]] = Field(default_factory=dict, description="a table for each backend")

    @field_validator("listen")
    @classmethod
    def _is_an_endpoint(cls, listen: str) -> str:
        return _checked_endpoint(listen) if listen != PASSED_SOCKET else listen

    def runtime_path(self, backend_endpoint: str = "") -> Path | None:
        """Return the socket of the runtime to relay to, or None for an image service only.

        Args:
            backend_endpoint: of a backend that is another runtime's image service.

        Raises:
            ConfigurationError: it is our own socket.
        """
        endpoint = self.runtime.endpoint or backend_endpoint
        if endpoint in {"", NO_RUNTIME}:
            return None
        path = socket_path(endpoint)
        if self.listen != PASSED_SOCKET and path == socket_path(self.listen):
            raise ConfigurationError(f"{endpoint} is where this server listens itself", ("runtime", "endpoint"))
        return path


def _checked_endpoint(endpoint: str) -> str:
    try:
        socket_path(endpoint)
    except ConfigurationError as error:
        raise ValueError(error.text) from error
    return endpoint
