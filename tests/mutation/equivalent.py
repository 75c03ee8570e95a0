"""Changes that no test can notice, or none should: each was looked at, and has its reason."""

from __future__ import annotations

_SIZE = "how much at a time or how long at most: a round number that nothing but its order of size depends on"

EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("criimage/files.py", "_PIECE = 1024 * 1024", "1024 -> 1025"): _SIZE,
    ("criimage/files.py", "_PIECE = 1024 * 1024", "Mult -> FloorDiv"): "one byte at a time reads the same",
    (
        "backends/criimage_containers_storage/registries/registries_conf.py",
        "@dataclass(frozen=True, slots=True)",
        "True -> False",
    ): "nobody changes one, and the type checker would see it",
    ("backends/criimage_docker/engine/json_stream.py", "_LONG = 64 * 1024", "Mult -> FloorDiv"): _SIZE,
    ("criimage/server/relay/versions.py", "PROBE_SECONDS = 10.0", "10.0 -> 11.0"): _SIZE,
}
"""By module, the line that is changed, and the change in words."""
