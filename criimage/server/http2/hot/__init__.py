"""Short ways for calls that can be answered at once; each does what the long way through h2 and grpclib would do.

`header_blocks` reads and makes HPACK blocks, `replies` writes a whole answer, `first_step` makes the first step of a
handler without a task, and `reads` takes complete calls out of what a client has sent. What one of them cannot do
exactly as the long way does, it leaves to that: anything but a complete, ordinary request that is answered with OK, at
once and within the windows.

Another HTTP/2 core would come in at `reads` and `replies`: docs/performance.md says what it would take.
"""
