"""The gRPC server: socket, wire, services."""
