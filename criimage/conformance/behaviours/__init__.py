"""The behaviours, a module for each group; importing this package collects them."""

from criimage.conformance.behaviours import (
    cancels,
    concurrency,
    credentials,
    errors,
    hostile,
    idempotence,
    listing,
    names,
    pull,
    removal,
    restart,
    status,
    streaming,
    usage,
    v1alpha2,
)

__all__ = [
    "cancels",
    "concurrency",
    "credentials",
    "errors",
    "hostile",
    "idempotence",
    "listing",
    "names",
    "pull",
    "removal",
    "restart",
    "status",
    "streaming",
    "usage",
    "v1alpha2",
]
