"""The manual: criimage(8), a page for each command, and criimage.toml(5), made from the code itself."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, NamedTuple

import click

from criimage import __version__
from criimage.shipping.roff import Page

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Key", "Table", "pages"]

_SUMMARY = "serve the images of a Kubernetes node over CRI"

_CALLERS_ENVIRONMENT = (
    ("CRIIMAGE_CONFIG", "the settings file, as `--config`"),
    ("CRIIMAGE_ENDPOINT", "the socket that client commands talk to, as `--endpoint`"),
    (
        "CRIIMAGE_KEY, CRIIMAGE_TABLE__KEY",
        "any setting: its dotted key in capitals, two underscores for a dot, one for a hyphen; wins over files",
    ),
    ("NO_COLOR", "no colours, whatever the output is"),
)
_SYSTEMDS_ENVIRONMENT = (
    (
        "NOTIFY_SOCKET, WATCHDOG_USEC",
        "set by systemd, which is told when the service is ready, reloads, stops, and works",
    ),
    ("LISTEN_FDS, LISTEN_PID", "set by systemd, where it opened the socket"),
    ("JOURNAL_STREAM", "set by systemd: log lines then have their priority and no time of their own"),
)
_ENVIRONMENT = (*_CALLERS_ENVIRONMENT, *_SYSTEMDS_ENVIRONMENT)
_SETTINGS_FILES = (
    ("/etc/criimage/config.toml", "settings, see `criimage.toml`(5)"),
    ("/etc/criimage/conf.d/*.toml", "settings that are read after it, in the order of their names"),
)
_SOCKETS = (("/run/criimage/criimage.sock", "the socket; `criimage.sock.lock` beside it says whose it is"),)
_INSTALLED = (
    ("PREFIX/share/criimage/installed.json", "what `criimage install` wrote, for `criimage uninstall`"),
    ("PREFIX/share/criimage/criimage.rules.yml", "alerting rules for Prometheus"),
    ("PREFIX/share/criimage/grafana-dashboard.json", "a dashboard for Grafana"),
)
_FILES = {
    "criimage": (*_SETTINGS_FILES, *_SOCKETS, *_INSTALLED),
    "criimage-serve": (*_SETTINGS_FILES, *_SOCKETS),
    "criimage-install": _INSTALLED,
    "criimage-uninstall": _INSTALLED,
}
"""By page; of any other command that reads settings only these."""
_STATUS = (
    ("0", "done"),
    ("1", "what was asked failed; the reason is on standard error"),
    ("2", "wrong usage, or settings that cannot be used"),
)
_STATUS_OF = {
    "criimage": (("0", "done; of the server: ended by SIGTERM or SIGINT"), *_STATUS[1:]),
    "criimage-serve": (
        ("0", "ended by SIGTERM or SIGINT"),
        ("1", "it cannot serve; the reason is on standard error"),
        _STATUS[2],
    ),
    "criimage-pulls": (("0", "done; with `--watch`: ended by Ctrl-C"), *_STATUS[1:]),
    "criimage-status": (
        ("0", "the service can do its work"),
        (
            "1",
            "it cannot, and standard output has its problems; or it cannot be asked, and standard error has the reason",
        ),
        _STATUS[2],
    ),
    "criimage-config-check": (
        ("0", "the settings can be used, and the backend can work on this machine"),
        ("1", "something is missing on this machine: standard output has what, and what to do"),
        _STATUS[2],
    ),
    "criimage-conformance": (
        ("0", "all is well, or a known difference"),
        ("1", "something failed"),
        ("2", "it could not be tried, or not to its end; the reason is on standard error"),
    ),
}
"""By page, where a status means something else than elsewhere."""
_SIGNALS = (
    ("SIGTERM, SIGINT", "end within 5 seconds: running pulls are cancelled, other calls get a short time to finish"),
    ("SIGHUP", "read the settings again; what is invalid is reported and changes nothing"),
)


class Key(NamedTuple):
    """A key of the settings: its name, default in TOML, and meaning."""

    name: str
    default: str
    meaning: str


class Table(NamedTuple):
    """A table of the settings: its title without brackets, empty for the top, and its keys."""

    title: str
    keys: tuple[Key, ...]


class _Known(NamedTuple):
    path: tuple[str, ...]
    command: click.Command
    context: click.Context

    @property
    def page(self) -> str:
        return "-".join(self.path)


def pages(main: click.Group, tables: Iterable[Table]) -> Iterator[Page]:
    """Yield every page.

    Args:
        main: the command `criimage`.
        tables: of the settings.
    """
    known = list(_walk(main, ("criimage",), None))
    yield _main_page(known)
    for one in known[1:]:
        yield _command_page(one, known)
    yield _settings_page(tables)


def _walk(command: click.Command, path: tuple[str, ...], above: click.Context | None) -> Iterator[_Known]:
    context = click.Context(command, above, path[-1])
    yield _Known(path, command, context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from _walk(found, (*path, name), context)


def _main_page(known: list[_Known]) -> Page:
    main = known[0]
    page = Page("criimage", 8, _SUMMARY, __version__)
    page.heading("SYNOPSIS")
    page.synopsis("criimage", "[OPTIONS] COMMAND [ARGUMENTS]...")
    page.heading("DESCRIPTION")
    page.paragraphs(
        f"{_help(main)}\n\n`criimage serve` answers the image calls of the Container Runtime Interface on a unix "
        "socket, for the image store of a backend: containers-storage, docker, or another CRI runtime. With a runtime "
        "behind it, it relays that runtime's calls too, so that a kubelet needs one socket. The client commands do "
        "what `crictl` does with images, on any CRI socket.\n\nEvery command has a page of its own, such as "
        "`criimage-pull`(8)."
    )
    page.heading("OPTIONS")
    _options(page, main)
    page.heading("COMMANDS")
    for one in known[1:]:
        page.term(" ".join(one.path[1:]), one.command.get_short_help_str(200))
    _common(page, [name for name, _ in _ENVIRONMENT], signals=True, files=_FILES[page.name])
    page.see_also([*((one.page, 8) for one in known[1:]), ("criimage.toml", 5)])
    return page


def _command_page(one: _Known, known: list[_Known]) -> Page:
    page = Page(one.page, 8, _begun_small(one.command.get_short_help_str(200).rstrip(".")), __version__)
    page.heading("SYNOPSIS")
    page.synopsis(" ".join(one.path), " ".join(one.command.collect_usage_pieces(one.context)))
    page.heading("DESCRIPTION")
    page.paragraphs(_help(one))
    page.heading("OPTIONS")
    _options(page, one)
    below = [other for other in known if other.path[:-1] == one.path]
    if below:
        page.heading("COMMANDS")
        for other in below:
            page.term(other.path[-1], other.command.get_short_help_str(200))
    serves = one.path[1:] == ("serve",)
    reads_settings = any(option.name == "config" for option in _shown(one))
    variables = [str(option.envvar) for option in _shown(one) if option.envvar]
    if reads_settings:
        variables.append("CRIIMAGE_KEY, CRIIMAGE_TABLE__KEY")
    if serves:
        variables += ["NO_COLOR", *(name for name, _ in _SYSTEMDS_ENVIRONMENT)]
    _common(page, variables, signals=serves, files=_FILES.get(page.name, _SETTINGS_FILES if reads_settings else ()))
    above = [("-".join(one.path[:-1]), 8)]
    page.see_also([*above, *((other.page, 8) for other in below), ("criimage.toml", 5)])
    return page


def _common(page: Page, variables: list[str], *, signals: bool, files: Iterable[tuple[str, str]]) -> None:
    _terms(page, "SIGNALS", _SIGNALS if signals else ())
    _terms(page, "ENVIRONMENT", [(name, meaning) for name, meaning in _ENVIRONMENT if name in variables])
    _terms(page, "FILES", files)
    _terms(page, "EXIT STATUS", _STATUS_OF.get(page.name, _STATUS))


def _terms(page: Page, heading: str, entries: Iterable[tuple[str, str]]) -> None:
    entries = tuple(entries)
    if entries:
        page.heading(heading)
    for term, meaning in entries:
        page.term(term, meaning)


def _begun_small(text: str) -> str:
    """A sentence without its capital; names, acronyms and arguments in it keep theirs."""
    return text[:1].lower() + text[1:]


def _help(one: _Known) -> str:
    return inspect.cleandoc(one.command.help or "").replace("\b", "").replace("\f", "")


def _shown(one: _Known) -> list[click.Option]:
    found = [parameter for parameter in one.command.get_params(one.context) if isinstance(parameter, click.Option)]
    return [option for option in found if not option.hidden]


def _options(page: Page, one: _Known) -> None:
    for option in _shown(one):
        record = option.get_help_record(one.context)
        if record is not None:
            page.term(*record)


def _settings_page(tables: Iterable[Table]) -> Page:
    page = Page("criimage.toml", 5, "settings of the CRI image service criimage", __version__)
    page.heading("DESCRIPTION")
    page.paragraphs(
        "Settings are read from `/etc/criimage/config.toml`, then from `conf.d/*.toml` beside it in the order of their "
        "names, then from variables `CRIIMAGE_*`, then from flags; the last wins, key by key. A missing file is fine, "
        "unless `--config` names it. A key that does not exist is an error.\n\nLengths of time are texts such as "
        '`"90s"`, `"10m"` or `"1h30m"`. `criimage config check` says whether the settings can be used here, '
        "`criimage config dump` which are in force, and `criimage config default` prints a file with all of them."
    )
    page.heading("KEYS")
    for table in tables:
        page.below(f"[{table.title}]" if table.title else "Top level")
        for key in table.keys:
            page.term(f"{key.name} = {key.default}" if key.default else key.name, key.meaning)
    page.heading("EXAMPLES")
    page.example(
        [
            'backend = "docker"',
            'pinned_images = ["registry.k8s.io/pause:*"]',
            "",
            "[metrics]",
            'address = "127.0.0.1:9477"',
        ]
    )
    page.heading("FILES")
    for name, meaning in _SETTINGS_FILES:
        page.term(name, meaning.replace(", see `criimage.toml`(5)", ""))
    page.see_also([("criimage", 8), ("criimage-config-check", 8), ("criimage-config-default", 8)])
    return page
