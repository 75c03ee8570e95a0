"""How far a pull is, from the messages of its stream (P10, P17-P19)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from criimage.backend import Phase, PullProgress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from criimage.backend import ProgressReporter
    from criimage_docker.pulling.download_queue import Layer, QueuedPull

__all__ = ["Tracker"]

_WAITING = "Waiting"
_ANNOUNCED = frozenset({"Pulling fs layer", _WAITING})
_PRESENT = "Already exists"
_UP_TO_DATE = "Status: Image is up to date"
_DIGEST = "Digest: "
_UNPACKED = "Pull complete"
_ARRIVED = frozenset({"Verifying Checksum", "Download complete", "Extracting", _UNPACKED})
_DOWNLOADING = "Downloading"


class Tracker:
    """Turns messages into snapshots, and reports each that differs from the last.

    `activity` counts real changes: a message whose id, status and number are those of the last one about the same layer
    does not count, because the containerd store repeats an unchanged number ten times a second, for ever if a registry
    hangs (P19). A retry counts: its text counts seconds down.

    Args:
        report: takes the snapshots.
        queued: the pull's layers among those of all pulls.

    Attributes:
        digest: of the manifest that the registry answered; empty while unknown.
    """

    def __init__(self, report: ProgressReporter, queued: QueuedPull) -> None:
        self._report = report
        self._queued = queued
        self._layers = queued.layers
        self._last: dict[str, tuple[object, object]] = {}
        self._activity = 0
        self._done = 0
        self._moving = False
        self._present: set[str] = set()
        self._unchanged = False
        self._waits = False
        self.digest = ""
        self._reported: PullProgress | None = None

    def start(self) -> None:
        """Report that the registry is being asked."""
        self._tell(PullProgress(Phase.RESOLVING))

    def see(self, message: Mapping[str, Any]) -> None:
        """Take one message of the stream."""
        layer, status = str(message.get("id") or ""), message.get("status")
        detail = message.get("progressDetail")
        numbers = detail if isinstance(detail, dict) else {}
        now = (status, numbers.get("current"))
        if self._last.get(layer) == now:
            return
        self._last[layer] = now
        self._activity += 1
        self._waits = False
        if layer and isinstance(status, str):
            self._of_layer(layer, status, numbers)
        elif str(status).startswith(_DIGEST):
            self.digest = str(status).removeprefix(_DIGEST)
        self._unchanged = self._unchanged or str(status).startswith(_UP_TO_DATE)
        self._tell(self._snapshot())

    @property
    def up_to_date(self) -> bool:
        """Whether the engine has said that nothing is new, and fetched nothing."""
        return self._unchanged and not self._layers

    @property
    def unpacks(self) -> bool:
        """Whether the engine unpacks, perhaps without a word about it: no standstill as long as it lives."""
        return self._phase() is Phase.UNPACKING

    def waits(self, since: float) -> bool:
        """Tell whether the engine keeps this pull waiting for other downloads, and report it when that changes.

        Args:
            since: the time from which on others must have moved; see `QueuedPull.waits_for_others`.
        """
        self._waits = self._queued.waits_for_others(since)
        self._tell(self._snapshot())
        return self._waits

    def alive(self) -> None:
        """Count a sign of life of the engine as work; see `unpacks`."""
        self._activity += 1
        self._tell(self._snapshot())

    def finish(self, layers: int = 0) -> None:
        """Report that everything is here.

        Args:
            layers: of the image: the engine does not mention those of one that is up to date, nor the containerd store
                any that it has.
        """
        seen = self._snapshot()
        self._tell(
            PullProgress(
                Phase.DONE,
                seen.bytes_done,
                seen.bytes_done,
                len(self._layers),
                len(self._layers),
                self._activity,
                len(self._present) or max(0, layers - len(self._layers)),
                self._unchanged,
            )
        )

    def _of_layer(self, key: str, status: str, numbers: Mapping[str, Any]) -> None:
        if status in _ANNOUNCED:
            self._queued.layer(key).waiting = status == _WAITING
        elif status == _PRESENT:
            # Announced by the containerd store before it looks.
            self._layers.pop(key, None)
            self._present.add(key)
        elif status == _DOWNLOADING or status in _ARRIVED:
            self._moving = True
            _move(self._queued.layer(key), status, numbers)
        elif key in self._layers:
            # Retrying: it has had its turn. The line that names the repository is of no layer.
            self._layers[key].waiting = False

    def _snapshot(self) -> PullProgress:
        layers = self._layers.values()
        # A retry begins at byte 0 again; clients are never told less than before.
        self._done = max(self._done, sum(layer.bytes for layer in layers))
        # All layers are announced before the first one moves. A small one may arrive without ever telling its size.
        known = self._moving and all(layer.total is not None for layer in layers)
        return PullProgress(
            self._phase(),
            self._done,
            max(self._done, sum(layer.total or 0 for layer in layers)) if known else None,
            sum(layer.arrived for layer in layers),
            len(layers) if self._moving else None,
            self._activity,
            # The containerd store does not mention them.
            (len(self._present) or None) if self._moving else None,
        )

    def _phase(self) -> Phase:
        if not self._layers:
            return Phase.RESOLVING
        if self._waits:
            return Phase.WAITING_FOR_STORE
        layers = self._layers.values()
        # With all layers unpacked only the config can be missing, and that is the registry's.
        if not all(layer.arrived for layer in layers) or all(layer.unpacked for layer in layers):
            return Phase.DOWNLOADING
        # Nothing is left to come: what goes on now is unpacking, of which the containerd store tells nothing.
        return Phase.UNPACKING

    def _tell(self, snapshot: PullProgress) -> None:
        if snapshot != self._reported:
            self._reported = snapshot
            self._report(snapshot)


def _move(layer: Layer, status: str, numbers: Mapping[str, Any]) -> None:
    total, current = numbers.get("total"), numbers.get("current")
    if isinstance(total, int) and total > 0:
        layer.total = total
    layer.moved = time.monotonic()
    layer.waiting = False
    # A retry begins after these as well: what has arrived may be thrown away.
    layer.arrived = status != _DOWNLOADING
    layer.unpacked = status == _UNPACKED
    if layer.arrived:
        layer.bytes = layer.total or layer.bytes
    elif isinstance(current, int):
        layer.bytes = current
