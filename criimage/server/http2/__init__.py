"""HTTP/2 by grpclib and h2: their faults cured, what a client may do bounded, ordinary calls taken the short way."""
