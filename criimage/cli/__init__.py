"""The command line: `criimage serve` and the client commands for a node without crictl."""

from criimage.cli.main import main

__all__ = ["main"]
