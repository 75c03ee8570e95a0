"""The gRPC server, by the way that a request takes through it.

listening      the socket, who may connect, how many, and whose calls are answered
server         the connections, from the first to the last
http2          grpclib and h2 without their faults, bounds for clients, ordinary calls taken the short way
calls          one call: its task, bytes, deadline and status, and who is told about it
services       what can be asked for, and the bytes of requests and answers
relay          another runtime's RuntimeService, as bytes

app            puts all of it together, runs it and ends it
reload         settings that are read again
signals        the end in time
systemd        what systemd is told
"""
