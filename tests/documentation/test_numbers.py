"""Claims: a number that a page states is the one that the code has."""

from __future__ import annotations

import pytest

from criimage import log_queue, peer
from criimage.channel import links, watch
from criimage.pulls import attempts, audit
from criimage.server import app
from criimage.server.calls import call, grpc_status
from criimage.server.listening import listener
from criimage.server.services import pull_service, replies
from criimage_containers_storage.pulling import process
from criimage_docker.engine import bounded_response
from documentation.pages import page

MIB, KIB = 2**20, 2**10
WORDS = {1: "one", 4: "four", 8: "eight", 10: "ten"}

STATED = [
    ("reference/errors", f"one line of at most {grpc_status._BYTES_LIMIT} bytes"),
    ("reference/errors", f"a message of more than {call.MESSAGE_LIMIT // MIB} MiB"),
    ("reference/wire", f"in messages of at most {replies.STREAM_BATCH}"),
    ("reference/wire", f"| request message | {call.MESSAGE_LIMIT // MIB} MiB |"),
    ("reference/wire", f"| answer left unread | {call.SEND_LIMIT:g} seconds |"),
    ("reference/wire", f"other calls may finish for {app.GRACE:g} second"),
    ("reference/wire", f"{WORDS[round(1 / pull_service.WATCH_SECONDS)]} times a second"),
    ("reference/wire", f"{WORDS[round(1 / pull_service.PAUSE_SECONDS)]} times while pulls begin and end"),
    ("hostile-input", f"after {call.SEND_LIMIT:g} s its call ends"),
    ("hostile-input", f"and for {listener.FAREWELLS} of them at once"),
    ("hostile-input", f"{bounded_response.ANSWER_LIMIT // MIB} MiB of an engine's answer are read"),
    ("hostile-input", f"{process._ERR_LIMIT // KIB} KiB of what a tool says"),
    ("guide/limits", f"Work that has not stopped {attempts.STOP_SECONDS:g} seconds later"),
    ("guide/limits", f"stands still for {attempts.STANDSTILL_SECONDS:g} seconds"),
    ("guide/limits", f"or for {attempts.SILENCE_SECONDS:g} second before the registry"),
    ("guide/pulls", f"a line every {audit.PROGRESS_SECONDS:g} seconds"),
    ("guide/metrics-and-logs", f"every {audit.PROGRESS_SECONDS:g} seconds and at its end"),
    ("guide/metrics-and-logs", f"{WORDS[peer.PEERS_NAMED]} at most"),
    ("guide/metrics-and-logs", f"{log_queue.LINES_LIMIT:,} lines and {log_queue.BYTES_LIMIT // MIB} MiB"),
    ("guide/metrics-and-logs", f"cut at {log_queue.LINE_LIMIT // KIB} KiB"),
    ("guide/one-socket", f"`UNAVAILABLE` after {links.HANDSHAKE_SECONDS:g} seconds"),
    ("guide/one-socket", f"({links.LINKS_LIMIT} connections are full)"),
    ("guide/one-socket", f"once calls have waited for {links.CROWDED_SECONDS:g} seconds"),
    ("guide/one-socket", f"a PING has been unanswered for {watch.ANSWER_SECONDS:g} seconds"),
    ("guide/one-socket", f"new calls go to the new one within {links.LOOK_SECONDS:g} seconds"),
]


@pytest.mark.parametrize(("name", "words"), STATED, ids=lambda text: text[:60])
def test_a_page_states_the_numbers_of_the_code(name: str, words: str) -> None:
    """Whoever changes one of them changes the page."""
    assert words in " ".join(page(name).split())
