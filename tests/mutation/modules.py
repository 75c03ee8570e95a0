"""Which quick tests a module answers to. The longest prefix counts."""

from __future__ import annotations

TESTS: dict[str, tuple[str, ...]] = {
    "criimage/server/calls/call.py": (
        "server/test_calls.py",
        "server/test_hardening.py",
        "server/test_pulls.py",
        "server/test_hostile_input.py::test_another_content_type",
        "server/test_hostile_input.py::test_spellings_of_the_content_type",
        "server/test_hostile_input.py::test_another_http_method",
        "server/test_hostile_input.py::test_compression",
        "server/test_hostile_input.py::test_a_stream_that_ends_inside_a_message",
        "server/test_hostile_input.py::test_an_announced_size_above_the_limit",
    ),
    "criimage/server/calls/connection_calls.py": (
        "server/test_calls.py",
        "server/test_hardening.py",
        "server/test_at_once.py",
        "server/test_pulls.py",
        "server/test_stopping.py",
        "server/test_limits.py::test_4000_calls_in_a_row_are_answered_on_one_connection",
    ),
    "criimage/server/http2/hardening.py": (
        "server/test_hardening.py",
        "server/test_calls.py",
        "server/test_limits.py",
        "server/test_stopping.py::test_a_stopping_server_says_goodbye_and_ends_what_it_has_begun",
    ),
    "criimage/server/http2/stream_taker.py": (
        "relay/test_relay.py::test_all_four_kinds_of_call",
        "relay/test_relay.py::test_large_messages",
        "relay/test_relay.py::test_a_request_that_goes_on_for_hours_holds_nothing_here",
    ),
    "criimage/server/http2/hot/replies.py": ("server/test_written_replies.py", "server/test_at_once.py"),
    "criimage/server/http2/hot": ("server/test_first_step.py", "server/test_at_once.py", "server/test_services.py"),
    "criimage/server/services/images.py": ("server/test_services.py",),
    "criimage/server/http2/limits.py": ("server/test_limits.py",),
    "criimage/server/listening/listener.py": ("server/test_listener.py", "server/test_socket.py"),
    "criimage/server/services/pull_service.py": ("pulls/test_wire.py",),
    "criimage/server/services/readiness.py": ("operating/test_readiness.py", "operating/test_systemd.py"),
    "criimage/server/relay": ("relay/test_relay.py", "relay"),
    "criimage/server/services/removal_service.py": ("pulls/test_removals.py", "pulls/test_wire.py"),
    "criimage/server/services/replies.py": ("server/test_replies.py", "server/test_services.py"),
    "criimage/server/services/requests.py": (
        "server/test_services.py",
        "server/test_pulls.py",
        "server/test_removing.py",
    ),
    "criimage/server/services/sandbox_pin.py": ("server/test_sandbox_pin.py",),
    "criimage/server/listening/socket.py": ("server/test_socket.py", "server/test_socket_watch.py"),
    "criimage/server/listening/socket_owner.py": ("server/test_socket_owner.py",),
    "criimage/server/listening/socket_watch.py": ("server/test_socket_watch.py",),
    "criimage/server/systemd.py": ("operating/test_systemd.py",),
    "criimage/pulls/audit.py": ("pulls/test_audit.py",),
    "criimage/pulls/limiter.py": ("pulls/test_limiter.py",),
    "criimage/pulls/policy.py": ("pulls/test_deadlines.py",),
    "criimage/pulls/trace.py": ("pulls/test_trace.py",),
    "criimage/pulls": ("pulls/test_sharing.py", "pulls/test_audit.py", "pulls/test_deadlines.py"),
    "criimage/removals.py": ("pulls/test_removals.py", "pulls/test_removals_in_any_order.py"),
    "criimage/reference.py": ("values",),
    "criimage/credentials.py": ("values/test_credentials.py",),
    "criimage/pins.py": ("values/test_pins.py",),
    "criimage/duration.py": ("pulls/test_duration.py",),
    "criimage/wire.py": ("wire/messages/test_varints.py", "server/test_replies.py"),
    "criimage/foreign_json.py": ("foreign/test_json.py",),
    "criimage/files.py": ("foreign/test_files.py",),
    "criimage/lasting.py": ("server/test_lasting.py",),
    "criimage/work.py": ("pulls/test_work.py",),
    "backends/criimage_containers_storage/config_files.py": ("containers_storage/test_config_files.py",),
    "backends/criimage_containers_storage/registries": (
        "containers_storage/test_rules.py",
        "containers_storage/test_config_files.py",
        "containers_storage/test_names.py",
        "containers_storage/test_configuration.py",
        "containers_storage/test_namespaces.py",
    ),
    "backends/criimage_containers_storage/registries/credentials.py": (
        "containers_storage/test_credential_sources.py",
        "containers_storage/test_proxy_secrets.py",
        "containers_storage/test_namespaces.py",
    ),
    "backends/criimage_containers_storage/store": (
        "containers_storage/test_store_files.py",
        "containers_storage/test_stored_values.py",
        "containers_storage/test_damaged_images.py",
        "containers_storage/test_reading.py",
        "containers_storage/test_split_store.py",
        "containers_storage/test_odd_records.py",
    ),
    "backends/criimage_containers_storage/registries/current.py": (
        "containers_storage/test_names.py",
        "containers_storage/test_reload.py",
    ),
    "backends/criimage_containers_storage/store/access.py": ("containers_storage/test_access.py",),
    "backends/criimage_containers_storage/store/busy.py": (
        "containers_storage/test_other_tools.py",
        "containers_storage/test_disk_waits.py",
    ),
    "backends/criimage_containers_storage/store/usage.py": (
        "containers_storage/test_measuring.py",
        "containers_storage/test_reading.py",
    ),
    "backends/criimage_containers_storage/store/storage_conf.py": (
        "containers_storage/test_config_files.py",
        "containers_storage/test_configuration.py",
        "containers_storage/test_split_store.py",
    ),
    "backends/criimage_containers_storage/pulling/failures.py": ("containers_storage/test_failures.py",),
    "backends/criimage_containers_storage/pulling/progress.py": (
        "containers_storage/test_disk_waits.py",
        "containers_storage/test_watching.py",
    ),
    "backends/criimage_containers_storage/pulling/proxy_protocol.py": ("containers_storage/test_proxy_protocol.py",),
    "backends/criimage_containers_storage/pulling/rate_limits.py": ("containers_storage/test_rate_limits.py",),
    "backends/criimage_cri": (
        "cri_backend/test_failures.py",
        "cri_backend/test_progress.py",
        "cri_backend/test_reading.py",
        "cri_backend/test_removing.py",
        "cri_backend/test_pulling.py",
        "cri_backend/test_runtimes.py",
    ),
    "backends/criimage_docker": (
        "docker/test_replayed_events.py",
        "docker/test_replayed_pulls.py",
        "docker/test_replayed_engines.py",
        "docker/test_conversion.py",
    ),
    "backends/criimage_docker/engine/address.py": ("docker/test_settings.py",),
    "backends/criimage_docker/engine/json_stream.py": ("docker/test_json_stream.py",),
    "backends/criimage_docker/pulling/auth.py": ("docker/test_auth.py",),
    "backends/criimage_docker/pulling/download_queue.py": ("docker/test_progress.py",),
    "backends/criimage_docker/pulling/failures.py": ("docker/test_failures.py",),
    "backends/criimage_docker/pulling/progress.py": ("docker/test_progress.py",),
    "backends/criimage_docker/pulling/puller.py": (
        "docker/test_replayed_pulls.py",
        "docker/test_replayed_engines.py",
    ),
    "backends/criimage_docker/view/usage.py": ("docker/test_usage_rounds.py",),
    "backends/criimage_docker/removal.py": ("docker/test_replayed_removals.py",),
    "backends/criimage_docker/settings.py": ("docker/test_settings.py",),
}
"""A module that no prefix covers has no quick tests of its own: only real parts show what it does."""


def tests_of(module: str) -> tuple[str, ...]:
    """The files, folders and single tests, below tests/, for a module; empty if there are none."""
    fitting = [prefix for prefix in TESTS if module == prefix or module.startswith(f"{prefix}/")]
    return TESTS[max(fitting, key=len)] if fitting else ()


def file_of(test: str) -> str:
    """The file or folder that one of these is in."""
    return test.partition("::")[0]
