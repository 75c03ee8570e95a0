"""Another address for a port of 127.0.0.1: names in a hosts file can carry no port, and port 80 there may be taken."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from parts.missing import need_root

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def forwarder(address: str, port: int, target: int) -> Iterator[None]:
    """Passes every connection on until the block is left.

    Args:
        address: where to listen, one of 127.0.0.0/8 that nobody else uses.
        port: where to listen.
        target: the port of 127.0.0.1 that connections are passed on to.
    """
    need_root()
    with socket.create_server((address, port)) as listener, contextlib.ExitStack() as connections:
        accepting = threading.Thread(target=_accept, args=(listener, target, connections), daemon=True)
        accepting.start()
        try:
            yield
        finally:
            # Closing alone would not wake the thread that waits in accept.
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _accept(listener: socket.socket, target: int, connections: contextlib.ExitStack) -> None:
    with contextlib.suppress(OSError):
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", target))
            for one in (near, far):
                connections.callback(_close, one)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
