"""RuntimeService of another runtime, relayed as bytes: one socket for the kubelet (cri-protocol 4, relay-and-cri 1).

relay       which calls are relayed, and how the runtime is
versions    in which version of the API they go up
caller      the client's stream
call        what the two sides do to each other, without sockets
"""

from criimage.server.relay.relay import Relay, RelayedCalls

__all__ = ["Relay", "RelayedCalls"]
