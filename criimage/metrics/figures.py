"""Who takes figures, and who drops them."""

from __future__ import annotations

from typing import Protocol

from criimage import errors

__all__ = ["Metrics", "NoMetrics", "error_kinds"]


class Metrics(Protocol):
    """Takes figures."""

    def observe(self, operation: str, seconds: float, error_kind: str | None) -> None:
        """Count one call of `operation`, and its error if it had one."""

    def pulls_running(self, count: int) -> None:
        """Take how many pulls are running or queued now."""

    def pull_ended(self, seconds: float, bytes_done: int, outcome: str) -> None:
        """Count one pull; `outcome` is `pulled`, `unchanged` or an error's kind."""

    def layers(self, fetched: int, reused: int) -> None:
        """Count the layers of a pull that has ended: those that were fetched, and those that were here already."""

    def removals_running(self, count: int) -> None:
        """Take how many removals are running now."""

    def removal_ended(self, seconds: float, outcome: str) -> None:
        """Count one removal; `outcome` is `removed` or an error's kind."""

    def relayed(self, method: str, status: str) -> None:
        """Count one call that was relayed to a runtime: its bare name and the name of its gRPC status."""

    def runtime_connected(self, connected: bool) -> None:
        """Take whether the runtime that calls are relayed to can be reached now."""


class NoMetrics:
    """Takes figures and drops them: nobody could read them."""

    def pulls_running(self, count: int) -> None:
        """Do nothing."""

    def pull_ended(self, seconds: float, bytes_done: int, outcome: str) -> None:
        """Do nothing."""

    def layers(self, fetched: int, reused: int) -> None:
        """Do nothing."""

    def removals_running(self, count: int) -> None:
        """Do nothing."""

    def removal_ended(self, seconds: float, outcome: str) -> None:
        """Do nothing."""

    def observe(self, operation: str, seconds: float, error_kind: str | None) -> None:
        """Do nothing."""

    def relayed(self, method: str, status: str) -> None:
        """Do nothing."""

    def runtime_connected(self, connected: bool) -> None:
        """Do nothing."""


def error_kinds() -> list[str]:
    """Return every kind that the label `kind` can have."""
    own = {getattr(errors, name).kind for name in errors.__all__}
    return sorted({*own, "cancelled", "deadline", "denied", "bad_call", "internal"})
