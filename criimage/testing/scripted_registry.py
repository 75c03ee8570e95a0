"""A registry that misbehaves on demand: real ones do not hang, trickle or lie when a test needs it.

It serves images of `criimage.testing.oci` over HTTP or HTTPS on 127.0.0.1, keeps a record of every request, and does
to them what scripts say. With the standard library only, in threads of this process.

    with scripted_registry() as hub:
        name = hub.put(image(noise_layer(1_000_000)), "team/app", "1")
        hang = hub.script(Stage.LAYER, Hang(after=1000), repository="team/app")
        ...                                       # somebody pulls name
        await hub.until(lambda: hang.reached)     # a request has come as far as the script
        assert hub.open(Stage.LAYER)              # and is still there
        hang.release()                            # the rest of it goes out
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from criimage.testing.scripted_acts import (
    Act,
    Answer,
    Auth,
    Change,
    Close,
    End,
    Hang,
    Request,
    Stage,
    Trickle,
    corrupted,
    truncated,
)
from criimage.testing.scripted_http import serving
from criimage.testing.scripted_hub import Script, ScriptedRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from criimage.testing.certificates import Certificates

__all__ = [
    "Act",
    "Answer",
    "Auth",
    "Change",
    "Close",
    "End",
    "Hang",
    "Request",
    "Script",
    "ScriptedRegistry",
    "Stage",
    "Trickle",
    "corrupted",
    "scripted_registry",
    "truncated",
]


@contextmanager
def scripted_registry(
    *,
    auth: Auth = Auth.NONE,
    accounts: Mapping[str, str] | None = None,
    certificates: Certificates | None = None,
) -> Iterator[ScriptedRegistry]:
    """Run a registry until the block is left, whatever hangs there.

    Args:
        auth: what it asks of everyone.
        accounts: passwords by user name.
        certificates: for HTTPS; see `criimage.testing.certificates`.

    Yields:
        the registry, which answers already.
    """
    with ScriptedRegistry(auth, accounts) as hub:
        hub.certificates = certificates
        with serving(hub, certificates) as port:
            hub.address = f"127.0.0.1:{port}"
            yield hub
