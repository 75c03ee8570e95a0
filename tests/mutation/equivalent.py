"""Changes that no test can notice, or none should: each was looked at, and has its reason."""

from __future__ import annotations

_SIZE = "how much at a time or how long at most: a round number that nothing but its order of size depends on"
_FROZEN = "nobody changes one, and the type checker would see it"

EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("criimage/files.py", "_PIECE = 1024 * 1024", "1024 -> 1025"): _SIZE,
    ("criimage/files.py", "_PIECE = 1024 * 1024", "Mult -> FloorDiv"): "one byte at a time reads the same",
    (
        "backends/criimage_containers_storage/registries/registries_conf.py",
        "@dataclass(frozen=True, slots=True)",
        "True -> False",
    ): _FROZEN,
    ("backends/criimage_docker/engine/json_stream.py", "_LONG = 64 * 1024", "Mult -> FloorDiv"): _SIZE,
    ("backends/criimage_containers_storage/store/reader.py", "_RETRY_SECONDS = 0.5", "0.5 -> 1.5"): _SIZE,
    (
        "backends/criimage_containers_storage/store/reader.py",
        "if known is not None and _same_files(known[0], record):",
        "arguments swapped",
    ): "equal either way round",
    (
        "backends/criimage_containers_storage/store/files.py",
        "return status is not None and status[0] > 0 and status[2] + _TICK < now",
        "Lt -> LtE",
    ): "a nanosecond more or less of a time that is generous",
    (
        "criimage/server/calls/call.py",
        "return await self._received()  # nothing has to be waited for",
        "statement removed",
    ): ("the way with a time limit gives the same for a request that has come"),
    (
        "criimage/foreign_json.py",
        'if text.count("[") + text.count("{") > bounds.depth or text.count(",") > bounds.members // 2:',
        "Gt -> GtE",
    ): "decides only whether a look is taken, which finds nothing that is not there",
    (
        "criimage/server/http2/hot/reads.py",
        "self._changes = -1",
        "1 -> 2",
    ): "any number that no count of changes can be",
    (
        "criimage/server/http2/hot/rest.py",
        "size, kind = read[place] << 16 | read[place + 1] << 8 | read[place + 2], read[place + 3]",
        "16 -> 17",
    ): "no frame of 64 KiB may come, and one that does goes the long way, where it is refused, by either size",
    ("criimage/lasting.py", "FIRST_PAUSE = 1.0", "1.0 -> 2.0"): _SIZE,
    ("criimage/server/listening/listener.py", "PAUSE_SECONDS = 1.0", "1.0 -> 2.0"): _SIZE,
    ("criimage/rounds.py", "self._next = None", "statement removed"): (
        "a round that has not begun is ended by `close` alone, and nobody asks after that"
    ),
    ("criimage/server/relay/versions.py", "PROBE_SECONDS = 10.0", "10.0 -> 11.0"): _SIZE,
    ("criimage/server/http2/limits.py", "if position < size:", "Lt -> LtE"): "an empty rest is kept as none is",
    (
        "criimage/server/http2/hardening.py",
        "normalize_inbound_headers=False,",
        "False -> True",
    ): "puts cookies together, which no call has",
    ("criimage/server/http2/hardening.py", "_CONNECTION_WINDOW = 64 * 2**20", "20 -> 21"): _SIZE,
    (
        "criimage/server/http2/stream_taker.py",
        "if self._unopened >= STREAM_WINDOW // 4 and state.state is StreamState.OPEN:",
        "GtE -> Gt",
    ): _SIZE,
    (
        "criimage/server/services/requests.py",
        "verbose: bool = False",
        "False -> True",
    ): "a request without that field is about a removal, which does not ask for it",
    ("criimage/pulls/running.py", "@dataclass(frozen=True, slots=True)", "True -> False"): _FROZEN,
    ("criimage/pulls/policy.py", "@dataclass(frozen=True, slots=True)", "True -> False"): _FROZEN,
    ("criimage/files.py", "SIZE_LIMIT = 16 * 1024 * 1024", "1024 -> 1025"): _SIZE,
    ("backends/criimage_containers_storage/store/reader.py", "_DAMAGED_SECONDS = 5.0", "5.0 -> 6.0"): _SIZE,
    (
        "backends/criimage_cri/view.py",
        "return self._images",
        "statement removed",
    ): "the same answer has the same elements, for which the same images are returned a little later",
    ("criimage/pulls/attempts.py", "self._giving_up = None", "statement removed"): (
        "a timer that was cancelled is cancelled once more"
    ),
    ("criimage/server/listening/listener.py", "SEND_BUFFER = 2**21", "21 -> 22"): _SIZE,
    ("backends/criimage_containers_storage/store/files.py", "_TICK = 3 * 10**9", "3 -> 4"): _SIZE,
    ("criimage/foreign_json.py", "if not nested or level >= _INDENTED:", "GtE -> Gt"): _SIZE,
}
"""By module, the line that is changed, and the change in words."""
