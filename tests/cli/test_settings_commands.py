"""`criimage config`: what is printed can be read again, and what is wrong is told with its place."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import threading
import tomllib
from typing import TYPE_CHECKING

import pytest

from cli.command import at_once, fail, run, succeed
from criimage import plugins
from criimage.cli import checking
from criimage.reference import registry_host
from criimage.settings import Settings, read_layers
from criimage.settings.tables import PullSettings
from documentation.pages import DOCS
from operating.staged import CANARY, installed, staged_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _staged_is_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every command of these tests finds a third party's backend too, one with a secret."""
    with installed() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.syspath_prepend(environment["PYTHONPATH"].partition(":")[0])
        yield


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The path of a settings file."""
    path = tmp_path / "config.toml"
    path.write_text('backend = "staged"\n')
    return path


def live(lines: list[str]) -> list[str]:
    """The lines as they are when everything is made live: the # goes that has no space behind it."""
    return [line.removeprefix("#") if line[1:2] != " " else line for line in lines]


def test_the_defaults_set_nothing() -> None:
    """Every line is empty or a comment, table headers too, so an upgrade may change a default."""
    text = succeed("config", "default")

    assert tomllib.loads(text) == {}
    assert all(not line or line.startswith("#") for line in text.splitlines())


def test_the_defaults_made_live_are_the_defaults(config: Path) -> None:
    """Design section 7: with each # taken away it is a valid file that changes nothing, for any backend."""
    config.write_text("\n".join(live(succeed("config", "default").splitlines())))

    layers = read_layers(config, environment={})
    settings = layers.settings()

    (example,) = settings.pulls.registry
    assert settings.pulls.policy().registries[registry_host(example)] == settings.pulls.policy().default
    pulls = settings.pulls.model_copy(update={"registry": {}})
    assert settings.model_copy(update={"backends": {}, "pulls": pulls}) == Settings()
    for backend in plugins.installed():
        plugin = plugins.load(backend.name)
        assert layers.backend_settings(plugin) == plugin.settings_model()
    assert set(settings.backends) == {backend.name for backend in plugins.installed()}


def test_the_defaults_show_every_key_and_explain_it() -> None:
    """Design section 7: every key of the core stands there, with a comment above it."""
    lines = succeed("config", "default").splitlines()
    found = tomllib.loads("\n".join(live(lines)))

    def check(keys: dict[str, object], table: dict[str, object]) -> None:
        assert set(keys) <= set(table)

    check(Settings().model_dump(exclude={"backends"}), found)
    for section in ("log", "metrics", "pulls"):
        check(getattr(Settings(), section).model_dump(), found[section])
    for before, line in itertools.pairwise(lines):
        if line.startswith("#") and line[1:2] not in {" ", "["}:
            assert before.startswith("# "), line


def test_every_table_of_the_pages_can_be_appended_to_the_defaults(config: Path) -> None:
    """`config default > FILE`, then any table or key of the docs behind it: valid TOML, and the key counts."""
    text = succeed("config", "default")
    seen = 0
    for page in sorted(DOCS.rglob("*.md")):
        for block in re.findall(r"```toml\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            try:
                alone = tomllib.loads(block)
            except tomllib.TOMLDecodeError:
                continue  # what is no settings file is judged elsewhere
            assert tomllib.loads(f"{text}\n{block}") == alone
            seen += 1
    assert seen >= 10


def test_the_defaults_go_on_without_a_broken_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ecosystem, layout A: what cannot be loaded is told on standard error, and the rest is printed."""
    info = tmp_path / "bad-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: bad\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[criimage.backends]\nbroken = no_such_module:plugin\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ['PYTHONPATH']}")

    ended = run("config", "default")

    assert ended.returncode == 0
    assert 'backend "broken" of bad 1 cannot be imported' in ended.stderr
    assert "#[backends.memory]" in ended.stdout.splitlines()


AWKWARD = [
    "plain",
    "",
    "ü😀",
    'quo"te',
    "back\\slash",
    "tab\tnewline\n",
    "del\x7f",
    "nul\x01",
    "\u2028",
    "# no comment",
]


def test_a_dump_is_what_is_in_force(config: Path) -> None:
    """Design section 7: read again, it gives the same settings, whatever layer they came from."""
    pins = "[" + ", ".join(f'"{text}"' for text in ("a", "b*")) + "]"
    (config.parent / "conf.d").mkdir()
    (config.parent / "conf.d" / "x.toml").write_text(
        f'pinned_images = {pins}\n[pulls]\nprogress_timeout = "1m30s"\n[pulls.registry."a.b:5000"]\nmax_parallel = 2\n'
    )
    arguments = ["--config", str(config), "--set", "metrics.address=127.0.0.1:9477", "--log-level", "debug"]

    dumped = succeed("config", "dump", *arguments)

    expected = read_layers(config, [("metrics.address", "127.0.0.1:9477"), ("log.level", "debug")], {}).settings()
    config.write_text(dumped)
    (config.parent / "conf.d" / "x.toml").unlink()
    found = read_layers(config, environment={}).settings()
    assert found.model_copy(update={"backends": {}}) == expected.model_copy(update={"backends": {}})
    assert found.pinned_images == ("a", "b*")
    assert found.pulls.registry["a.b:5000"].max_parallel == 2


@pytest.mark.parametrize("text", AWKWARD)
def test_a_dump_keeps_every_character(config: Path, text: str) -> None:
    """Any text that TOML can hold survives being printed."""
    config.write_text('backend = "staged"\n[backends.staged]\nproblem = ' + _basic_string(text))

    assert tomllib.loads(at_once("config", "dump", "--config", str(config)))["backends"]["staged"]["problem"] == text


def _basic_string(text: str) -> str:
    return '"' + "".join(f"\\U{ord(character):08x}" for character in text) + '"'


def test_a_terminal_without_a_sign_shows_its_escape(config: Path) -> None:
    """In a locale of eight bits, too, the command says what it has to say; in TOML the escape is the sign."""
    config.write_text('pinned_images = ["\u2713"]\n', encoding="utf-8")

    ended = run("config", "dump", "--config", str(config), environment={"PYTHONIOENCODING": "iso8859-15"})

    assert (ended.returncode, ended.stderr) == (0, "")
    assert tomllib.loads(ended.stdout)["pinned_images"] == ["\u2713"]


@pytest.mark.parametrize("command", ["dump", "check"])
def test_secrets_are_masked(config: Path, command: str) -> None:
    """Ecosystem, conventions: a dump may be sent to anybody."""
    config.write_text(f'backend = "staged"\n[backends.staged]\ntoken = "{CANARY}"\n')

    printed = succeed("config", command, "--config", str(config))

    assert CANARY not in printed
    if command == "dump":
        assert tomllib.loads(printed)["backends"]["staged"]["token"] == "*" * 10


def test_a_secret_in_the_wrong_place_is_not_shown(config: Path) -> None:
    """A mistyped key or table must not print the value that was meant for another."""
    config.write_text(f'backend = "staged"\ntoken = "{CANARY}"\n[backends.staged]\ntokn = "{CANARY}"\n')
    told = run("config", "check", "--config", str(config)).stderr
    config.write_text(f'backend = "staged"\n[backends.staged]\ntokn = "{CANARY}"\ntoken = ["{CANARY}"]\n')
    told += run("config", "check", "--config", str(config)).stderr

    assert "token: no such key" in told
    assert "backends.staged.tokn: no such key" in told
    assert CANARY not in told


def test_check_says_ok(config: Path) -> None:
    """Design section 7: exit code 0 where settings are valid and the backend can work."""
    assert succeed("config", "check", "--config", str(config)) == "ok: staged can work here\n"


def test_check_tells_what_keeps_a_backend_from_working(config: Path) -> None:
    """Design section 7: exit code 1, problem and remedy, where the settings are valid but the machine is not ready."""
    config.write_text('backend = "staged"\n[backends.staged]\nproblem = "no disk"\n')

    ended = run("config", "check", "--config", str(config))

    assert (ended.returncode, ended.stdout) == (1, "staged: no disk\n  do something\n")


def test_what_a_backend_logs_is_not_printed(config: Path) -> None:
    """Its events are for the log of a service; a command, which has none, would show them among its own lines."""
    config.write_text('backend = "staged"\n[backends.staged]\nsays = "something"\n')

    assert succeed("config", "check", "--config", str(config)) == "ok: staged can work here\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bakend = 1\n", "{config}, line 1: bakend: no such key; did you mean backend?"),
        (
            "[pulls]\nprogres_timeout = 1\n",
            "{config}, line 2: pulls.progres_timeout: no such key; did you mean progress_timeout?",
        ),
        (
            '[metrics]\naddress = "::1:9477"\n',
            "{config}, line 2: metrics.address: an IPv6 address stands in brackets: [::1]:9477",
        ),
        (
            '[pulls.registry."https://a.io"]\n',
            '{config}, line 1: pulls.registry."https://a.io": is the registry of no image',
        ),
        (
            '[pulls.registry."index.docker.io"]\n',
            '{config}, line 1: pulls.registry."index.docker.io": is the registry of no image',
        ),
        (
            '[pulls.registry."a.io"]\n[pulls.registry."A.io:443"]\n',
            '{config}, line 2: pulls.registry."A.io:443": "a.io" and "A.io:443" are the same registry',
        ),
        ("a = \n", "{config}, line 1, column 5: no value that TOML knows"),
        (
            'backend = "nope"\n',
            '{config}, line 1: backend: no backend "nope" is installed; installed: containers-storage',
        ),
        ('backend = "staged"\n[backends.nope]\n', '{config}, line 2: backends.nope: no backend "nope" is installed'),
        ('backend = "staged"\n[backends.memory]\nx = 1\n', "{config}, line 3: backends.memory.x: no such key"),
        (
            'backend = "staged"\nlisten = "x"\n',
            '{config}, line 2: listen: endpoint "x" is not of the form unix:///path',
        ),
    ],
)
def test_check_finds_wrong_settings(config: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str) -> None:
    """Design section 7: exit code 2 with file and key, also for a backend that is not the chosen one."""
    config.write_text(text)
    if "backend =" not in text:
        monkeypatch.setenv("CRIIMAGE_BACKEND", "staged")

    assert fail("config", "check", "--config", str(config), code=2).startswith(told.format(config=config))


def test_check_tells_the_errors_of_all_files_at_once(config: Path) -> None:
    """Each file that is no TOML is named, and each backend's wrong key, so that one run is enough (issue 14, A3)."""
    drop_ins = config.parent / "conf.d"
    drop_ins.mkdir()
    config.write_text("a = \n")
    (drop_ins / "1.toml").write_text("b = \n")
    told = run("config", "check", "--config", str(config)).stderr
    assert f"{config}, line 1" in told
    assert f"{drop_ins}/1.toml, line 1" in told

    (drop_ins / "1.toml").write_text("[backends.containers-storage]\nrot = 1\n")
    config.write_text('backend = "staged"\n[backends.memory]\nx = 1\n')
    told = run("config", "check", "--config", str(config)).stderr
    assert f"{config}, line 3: backends.memory.x: no such key" in told
    assert f"{drop_ins}/1.toml, line 2: backends.containers-storage.rot: no such key; did you mean root?" in told


def test_check_finds_where_nothing_can_be_served(config: Path, tmp_path: Path) -> None:
    """A file at the socket's path or on the way to it, and no address of this machine: `serve` would end at once."""
    (tmp_path / "file").write_text("")
    begin = 'backend = "staged"\n'
    for text, told in (
        (f'listen = "unix://{tmp_path}/file"\n', f"line 2: listen: {tmp_path}/file exists and is no socket"),
        (
            'listen = "unix:///proc/a/s"\n',
            "line 2: listen: cannot listen on /proc/a/s: /proc is on the file system proc,",
        ),
        (f'listen = "unix://{tmp_path}/file/a/s"\n', f"cannot listen on {tmp_path}/file/a/s: {tmp_path}/file is no"),
        ('[metrics]\naddress = "192.0.2.1:9477"\n', "line 3: metrics.address: metrics cannot be served at 192.0.2.1"),
    ):
        config.write_text(begin + text)
        assert told in fail("config", "check", "--config", str(config), code=2)
    assert (tmp_path / "file").read_text() == ""


def test_default_fits_an_editor() -> None:
    """What explains a key is broken between words at 100 columns, and still explains it all."""
    lines = succeed("config", "default").splitlines()
    comments = [line for line in lines if line.startswith("# ")]
    assert max(map(len, comments)) <= 100
    text = " ".join(line.removeprefix("# ") for line in comments)
    for name, field in PullSettings.model_fields.items():
        assert field.description, name
        assert field.description in text


def test_check_does_not_mind_a_server_that_runs(config: Path, tmp_path: Path) -> None:
    """Settings are checked beside the service that has them: its socket and its port are no faults, and stay."""
    with contextlib.ExitStack() as stack:
        # Held, so that nobody is given the port before the server has it; who only binds is not in its way.
        held = stack.enter_context(socket.socket())
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        server = stack.enter_context(staged_server(f'[metrics]\naddress = "{address}"\n'))
        begin = f'backend = "staged"\n[metrics]\naddress = "{address}"\n'
        config.write_text(begin)
        listen = f"unix://{server.socket}"
        assert succeed("config", "check", "--config", str(config), "--listen", listen) == "ok: staged can work here\n"
        # Of another service, which would get neither the socket nor the port.
        told = fail("config", "check", "--config", str(config), "--listen", f"unix://{tmp_path}/s", code=2)
        assert (
            told == f"{config}, line 3: metrics.address: metrics cannot be served at {address}: Address already in use"
        )
        assert server.process.process.returncode is None


def test_a_port_that_another_process_has_is_a_fault(config: Path, tmp_path: Path) -> None:
    """Whatever listens at the socket's place: the port's page is not ours, so `serve` would end at once."""
    with socket.socket(socket.AF_UNIX) as serving, socket.create_server(("127.0.0.1", 0)) as page:
        serving.bind(str(tmp_path / "s"))
        serving.listen()
        address = f"127.0.0.1:{page.getsockname()[1]}"
        config.write_text(f'backend = "staged"\nlisten = "unix://{tmp_path}/s"\n[metrics]\naddress = "{address}"\n')
        answering = threading.Thread(target=_refuse_once, args=(page,))
        answering.start()
        told = fail("config", "check", "--config", str(config), code=2)
        answering.join()
        assert told.endswith(f"line 4: metrics.address: metrics cannot be served at {address}: Address already in use")
        assert (tmp_path / "s").is_socket()


def _refuse_once(page: socket.socket) -> None:
    with page.accept()[0] as client:
        client.recv(1024)
        client.sendall(b"HTTP/1.0 404 Not Found\r\n\r\n")


def test_all_that_is_wrong_is_told_at_once(config: Path) -> None:
    """A torn file, keys in another, variables, a flag and a user that is not here (issue 14, A3)."""
    drop_ins = config.parent / "conf.d"
    drop_ins.mkdir()
    config.write_text("a = \n")
    (drop_ins / "1.toml").write_text('[log]\nlevel = "loud"\n[backends.memory]\nx = 1\n[socket]\nowner = "no.such"\n')
    environment = {"CRIIMAGE_NO_SUCH": "1", "CRIIMAGE_LISTEN": "/run/caf\udce9"}

    ended = run("config", "check", "--config", str(config), "--set", "image_ref=x", environment=environment)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert [line.partition(": ")[0] for line in ended.stderr.removeprefix("Error: ").splitlines()] == [
        f"{config}, line 1, column 5",
        "environment variable CRIIMAGE_LISTEN",
        "flag for image_ref",
        f"{drop_ins}/1.toml, line 2",
        "environment variable CRIIMAGE_NO_SUCH",
        f"{drop_ins}/1.toml, line 4",
        f"{drop_ins}/1.toml, line 6",
    ]


def test_a_fault_in_one_place_hides_none_in_another(config: Path, tmp_path: Path) -> None:
    """Key, place, user and group, each of two users, address, table and the backend's own problem, in one run."""
    (tmp_path / "file").write_text("")
    config.write_text(
        f'backend = "staged"\nlisten = "unix://{tmp_path}/file"\nbakend = 1\n'
        '[socket]\nowner = "no.a"\ngroup = "no.b"\nallowed_users = ["no.c", 0, "no.d"]\n'
        '[metrics]\naddress = "192.0.2.1:9477"\n[backends.nope]\n[backends.staged]\nproblem = "no disk"\n'
    )

    ended = run("config", "check", "--config", str(config))

    assert (ended.returncode, ended.stdout) == (2, "staged: no disk\n  do something\n")
    told = ended.stderr.removeprefix("Error: ").splitlines()
    lines = [re.match(rf"{re.escape(str(config))}, line (\d+): ", line) for line in told]
    assert [int(line[1]) for line in lines if line] == [3, 10, 2, 5, 6, 7, 7, 9], told
    for word in ("no.a", "no.b", "no.c", "no.d"):
        assert word in ended.stderr


def test_a_backend_that_one_of_its_keys_keeps_shut_is_looked_at_without_it(config: Path) -> None:
    """What it says at its opening hides nothing else that it would say."""
    config.write_text('backend = "staged"\n[backends.staged]\nplace = "/none"\nproblem = "no disk"\n')

    ended = run("config", "check", "--config", str(config))

    assert (ended.returncode, ended.stdout) == (2, "staged: no disk\n  do something\n")
    assert ended.stderr == f"Error: {config}, line 3: backends.staged.place: no place for anything\n"


def test_a_key_at_fault_has_its_own_line(config: Path) -> None:
    """Two that can match no image, and one twice, among good ones: each with the line on which it stands."""
    config.write_text(
        '[pulls.registry."a.example"]\n[pulls.registry."b.example/x"]\nmax_parallel = 1\n[pulls.registry."c.example"]\n'
        '[pulls.registry."https://c"]\n[pulls.registry."reg:99999"]\n[pulls.registry."reg:0"]\n'
        '[pulls.registry."reg:65535"]\n[pulls.registry."reg:065535"]\n'
    )
    told = run("config", "check", "--config", str(config), environment={"CRIIMAGE_BACKEND": "staged"}).stderr
    found = [line.removeprefix(f"{config}, line ") for line in told.removeprefix("Error: ").splitlines()]
    assert [line.partition(": ")[0] + line.partition(": ")[2][:30] for line in found] == [
        '2pulls.registry."b.example/x": ',
        '5pulls.registry."https://c": is',
        '6pulls.registry."reg:99999": is',
        '7pulls.registry."reg:0": is the',
        '9pulls.registry."reg:065535": "',
    ]


def test_a_user_who_cannot_make_the_socket_is_noted(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no fault: whoever asks may be another user than the service has."""
    monkeypatch.setattr(checking, "hindrance", lambda listen, owner: f"{listen} {tuple(owner)}")
    config.write_text('backend = "staged"\nlisten = "unix:///run/s"\n[socket]\nowner = "7"\n')
    note, remedy, last = at_once("config", "check", "--config", str(config)).splitlines()
    assert note.startswith("note: as user ")
    assert note.endswith(" the socket cannot be made: unix:///run/s (7, -1)")
    assert (remedy[:2], last) == ("  ", "ok: staged can work here")


def test_what_works_otherwise_than_meant_is_noted(config: Path) -> None:
    """Pins that can match no name are no fault, as the service starts with them; they are not passed over either."""
    config.write_text(
        'backend = "staged"\npinned_images = ["busybox:1.36", "", "a b*", "docker.io/library/busybox:1", '
        '"*pause*", "A.io/x:1"]\n'
    )
    *notes, last = succeed("config", "check", "--config", str(config)).splitlines()
    assert last == "ok: staged can work here"
    complete = "docker.io/library/busybox:1.36"
    assert notes == [
        f'note: pinned_images: "busybox:1.36" can match no image: names are complete, such as {complete}',
        'note: pinned_images: "" can match no image: it is no name',
        'note: pinned_images: "a b*" can match no image: no name has such signs',
    ]


@pytest.mark.parametrize("command", [["config", "dump"], ["config", "check"], ["serve"]])
def test_a_missing_file_is_told(tmp_path: Path, command: list[str]) -> None:
    """Design section 7: a --config that is not there is an error, by option and by variable."""
    told = f"cannot read {tmp_path}/none.toml: No such file or directory"

    assert fail(*command, "--config", f"{tmp_path}/none.toml", code=2) == told
    ended = run(*command, environment={"CRIIMAGE_CONFIG": f"{tmp_path}/none.toml"})
    assert (ended.returncode, ended.stderr) == (2, f"Error: {told}\n")


@pytest.mark.parametrize("assignment", ["backend", "=x", "log..level=x", ".x=1", ""])
def test_an_assignment_needs_key_and_value(assignment: str) -> None:
    """Design section 7: --set takes dotted.key=value."""
    assert "is not of the form KEY=VALUE" in fail("config", "dump", "--set", assignment, code=2)


def test_flags_win_over_assignments_and_variables(config: Path) -> None:
    """Design section 7: the order of the layers, from the outside."""
    found = run(
        "config",
        "dump",
        *("--config", str(config), "--set", "log.level=warning", "--set", "log.format=json", "--log-level", "error"),
        *("--set", "backends.staged.problem=a = b", "--set", 'pinned_images=["a", "b"]'),
        environment={"CRIIMAGE_LOG__LEVEL": "debug", "CRIIMAGE_LOG__FORMAT": "text", "CRIIMAGE_LISTEN": "/run/x.sock"},
    )

    dumped = tomllib.loads(found.stdout)

    assert dumped["log"] == {"level": "error", "format": "json"}
    assert dumped["listen"] == "/run/x.sock"
    assert dumped["pinned_images"] == ["a", "b"]
    assert dumped["backends"]["staged"]["problem"] == "a = b"
