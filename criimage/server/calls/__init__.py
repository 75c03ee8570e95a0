"""A call between the wire and its service: the task it runs in, its bytes, its status, and who is told about it."""
