"""Settings: which layer wins, and how a fault in one is told (design section 7; ecosystem, conventions)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from criimage.errors import ConfigurationError
from criimage.plugins import load
from criimage.settings import layers, read_layers, read_value
from plugins.distributions import install, plugin_source

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "DEFAULT_CONFIG", tmp_path / "nowhere" / "config.toml")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The path of a settings file with an empty conf.d beside it."""
    (tmp_path / "conf.d").mkdir()
    return tmp_path / "config.toml"


def drop_in(config: Path, name: str, text: str) -> Path:
    """Write a drop-in."""
    path = config.parent / "conf.d" / name
    path.write_text(text)
    return path


def fault(
    config: Path | None, overrides: list[tuple[str, object]] | None = None, environment: dict[str, str] | None = None
) -> str:
    """The text with which these settings are refused."""
    with pytest.raises(ConfigurationError) as caught:
        read_layers(config, overrides or [], environment or {}).settings()
    return caught.value.text


def test_later_layers_win_key_by_key(config: Path) -> None:
    """Design section 7: file < drop-ins by name < environment < flags, and each leaves the others' keys alone."""
    config.write_text(
        'backend = "a"\nimage_ref = "id"\npinned_images = ["file"]\n'
        '[log]\nlevel = "error"\nformat = "json"\n[metrics]\naddress = "h:1"\n'
    )
    drop_in(config, "20.toml", '[log]\nlevel = "warning"\n')
    drop_in(config, "10.toml", 'image_ref = "repo-digest"\n[log]\nlevel = "info"\n[metrics]\naddress = "h:2"\n')
    environment = {"CRIIMAGE_METRICS__ADDRESS": "h:3", "CRIIMAGE_LOG__LEVEL": "error", "UNRELATED": "x"}

    found = read_layers(config, [("log.level", "debug"), ("backend", "b")], environment).settings()

    assert found.backend == "b"
    assert found.image_ref == "repo-digest"
    assert found.pinned_images == ("file",)
    assert (found.log.level, found.log.format) == ("debug", "json")
    assert found.metrics.address == "h:3"


def test_drop_ins_are_read_in_lexical_order(config: Path) -> None:
    """Ecosystem, conventions: by name, not by time; other files there are left alone."""
    config.write_text("")
    for name in ("9.toml", "10.toml", "a.toml", "Z.toml", ".toml", "z.toml.bak", "readme"):
        drop_in(config, name, f'pinned_images = ["{name}"]' if name.endswith(".toml") else "[[[")

    assert read_layers(config, environment={}).settings().pinned_images == ("a.toml",)


def test_a_drop_in_keeps_its_siblings_tables(config: Path) -> None:
    """Ecosystem, libraries: the merge is deep, in the backends' tables too; a list is replaced, not joined."""
    config.write_text('[backends.containers-storage]\nroot = "/a"\noptions = ["x=1", "y=2"]\n')
    drop_in(config, "a.toml", '[backends.containers-storage]\npolicy = "/p"\noptions = ["z=3"]\n')

    found = read_layers(config, environment={}).backend_settings(load("containers-storage"))

    assert (found.root, found.policy, found.options) == ("/a", "/p", ("z=3",))


def test_drop_ins_lie_beside_the_given_file(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Design section 7: with --config it is that file's conf.d, never the default's."""
    elsewhere = tmp_path / "default"
    (elsewhere / "conf.d").mkdir(parents=True)
    (elsewhere / "conf.d" / "x.toml").write_text('backend = "wrong"')
    monkeypatch.setattr(layers, "DEFAULT_CONFIG", elsewhere / "config.toml")
    config.write_text("")
    drop_in(config, "a.toml", 'backend = "right"')

    assert read_layers(config, environment={}).settings().backend == "right"


def test_a_missing_default_file_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Design section 7: no file means the defaults; drop-ins beside it count all the same."""
    monkeypatch.setattr(layers, "DEFAULT_CONFIG", tmp_path / "config.toml")
    assert read_layers(environment={}).settings().backend == "containers-storage"

    (tmp_path / "conf.d").mkdir()
    drop_in(tmp_path / "config.toml", "a.toml", 'backend = "docker"')
    assert read_layers(environment={}).settings().backend == "docker"


def test_a_missing_file_that_was_asked_for_is_an_error(tmp_path: Path) -> None:
    """Design section 7: a mistyped --config must not mean the defaults."""
    assert fault(tmp_path / "no.toml") == f"cannot read {tmp_path}/no.toml: No such file or directory"


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A default file that is there but cannot be read is not taken for a missing one."""
    (tmp_path / "file").write_text("")
    assert fault(tmp_path) == f"cannot read {tmp_path}: it is a folder"
    assert fault(tmp_path / "file" / "config.toml").endswith(": Not a directory")

    monkeypatch.setattr(layers, "DEFAULT_CONFIG", tmp_path / ("x" * 300))
    assert "File name too long" in fault(None)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a = 1\nb =\n", "line 2"),
        ("a = 1\n\n[log\n", "line 3"),
        ("a = 1\na = 2\n", "line 2"),
        ("backend = memory\n", "line 1"),
    ],
)
def test_bad_toml_names_file_and_line(config: Path, text: str, place: str) -> None:
    """Ecosystem, libraries: an operator is told where to look, in the file and in a drop-in."""
    config.write_text(text)
    assert str(config) in fault(config)
    assert place in fault(config)

    config.write_text("")
    path = drop_in(config, "a.toml", text)
    assert str(path) in fault(config)
    assert place in fault(config)


def test_a_mark_of_byte_order_is_no_fault(config: Path) -> None:
    """Some editors begin a file with one, which nobody sees; what is wrong behind it still has its line."""
    config.write_bytes(b'\xef\xbb\xbfbackend = "memory"\r\n')
    assert read_layers(config, environment={}).settings().backend == "memory"

    config.write_bytes(b'\xef\xbb\xbfbackend = "memory"\r\nbakend = 1\r\n')
    assert fault(config).startswith(f"{config}, line 2: bakend: ")


def test_a_file_that_is_no_text_is_an_error(config: Path) -> None:
    """TOML is UTF-8; anything else is told with the file's name."""
    config.write_bytes(b'backend = "\xff"\n')

    assert str(config) in fault(config)


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("bakend = 1", 1, "bakend"),
        ("[log]\nlevle = 1", 2, "log.levle"),
        ("[metrics]\nport = 1", 2, "metrics.port"),
        ("[lgo]\nlevel = 1", 1, "lgo"),
        ("log.level.x = 1", 1, "log.level"),
        ('[pulls.registry."a.b:5000"]\nx = 1', 2, 'pulls.registry."a.b:5000".x'),
    ],
)
def test_an_unknown_key_names_its_line_and_itself(config: Path, text: str, line: int, key: str) -> None:
    """Ecosystem, conventions: an unknown key is refused, with the dotted key and where it stands."""
    config.write_text("")
    path = drop_in(config, "a.toml", text)

    assert fault(config).startswith(f"{path}, line {line}: {key}: ")


def test_an_unknown_key_of_a_backend_names_its_file_and_itself(config: Path) -> None:
    """Design section 7: the chosen backend's own keys are checked as strictly."""
    config.write_text('[backends.memory]\nsize = "1G"\n')

    with pytest.raises(ConfigurationError, match=r"config\.toml, line 2: backends\.memory\.size: no such key"):
        read_layers(config, environment={}).backend_settings(load("memory"))


def test_each_fault_is_told_with_its_own_origin(config: Path) -> None:
    """All faults at once, each with the layer that set the value last."""
    config.write_text('image_ref = "no"\n[log]\nlevel = "loud"\n')
    path = drop_in(config, "a.toml", 'image_ref = "neither"\n')

    lines = fault(config, [("metrics.address", "x")], {"CRIIMAGE_NO_SUCH": "1"}).splitlines()

    assert {line.partition(": ")[0] for line in lines} == {
        f"{path}, line 1",
        f"{config}, line 3",
        "flag for metrics.address",
        "environment variable CRIIMAGE_NO_SUCH",
    }


def test_faults_do_not_show_values() -> None:
    """A value may be a secret that was written to the wrong key: only key, place and rule are told."""
    told = fault(None, [("image_ref", "c4n4ry"), ("c4.n4ry", "c4n4ry"), ("metrics", "c4n4ry")])

    assert "c4n4ry" not in told
    assert len(told.splitlines()) == 3


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("listen", "tcp://1.2.3.4:5", 'endpoint "tcp://1.2.3.4:5" is not of the form unix:///path'),
        ("listen", "unix://relative", "is not of the form unix:///path"),
        ("listen", "", "is not of the form unix:///path"),
        ("listen", "unix:///" + "x" * 107, "longer than 107 bytes"),
        ("metrics.address", "9477", "not of the form HOST:PORT"),
        ("metrics.address", ":9477", "not of the form HOST:PORT"),
        ("metrics.address", "localhost:http", "not of the form HOST:PORT"),
        ("metrics.address", "localhost:65536", "not of the form HOST:PORT"),
        ("metrics.address", "localhost:٣", "not of the form HOST:PORT"),
        ("log.level", "verbose", '"debug", "info", "warning" or "error"'),
        ("log.format", "xml", '"text" or "json"'),
        ("pinned_images", "one", "must be a list"),
        ("backends", "x", "must be a table"),
        ("backends.memory", "x", "must be a table"),
        ("backend", 3, 'must be text in "quotes", not a number'),
    ],
)
def test_a_wrong_value_is_refused_before_anything_starts(key: str, value: object, told: str) -> None:
    """Design section 7: whatever can be known wrong from the settings alone is, with a readable rule."""
    text = fault(None, [(key, value)])

    assert text.startswith(f"flag for {key}: ")
    assert told in text


@pytest.mark.parametrize(
    "listen", ["fd://", "unix:///run/x.sock", "/run/x.sock", "unix:///" + "x" * 106, "unix:///ü/ä.sock"]
)
def test_every_usable_endpoint_is_accepted(listen: str) -> None:
    """Design section 7: unix:///PATH or fd://; a bare path as other tools take it."""
    assert read_layers(None, [("listen", listen)], {}).settings().listen == listen


@pytest.mark.parametrize(
    ("variable", "key"),
    [
        ("CRIIMAGE_BACKENDS__CONTAINERS_STORAGE__ROOT", "/x"),
        ("CRIIMAGE_BACKENDS__containers_storage__root", "/x"),
        ("CRIIMAGE_backends__CONTAINERS-STORAGE__ROOT", "/x"),
    ],
)
def test_variables_reach_a_backend_with_a_hyphen(variable: str, key: str) -> None:
    """Design section 7: nested by `__`, a hyphen written as `_`."""
    found = read_layers(None, environment={variable: key}).backend_settings(load("containers-storage"))

    assert found.root == key


def test_variables_reach_a_third_partys_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Design section 7: the spelling is looked up among what is installed, not in a list of ours."""
    install(tmp_path, "mine", {"my-own-store": "tp_env:plugin"}, {"tp_env": plugin_source("my-own-store")})
    monkeypatch.syspath_prepend(str(tmp_path))

    layers = read_layers(None, environment={"CRIIMAGE_BACKENDS__MY_OWN_STORE__COLOUR": "blue"})

    assert layers.backend_settings(load("my-own-store")).colour == "blue"


def test_the_clients_own_variables_are_no_settings() -> None:
    """CRIIMAGE_ENDPOINT and CRIIMAGE_CONFIG belong to options; a server does not stumble over them."""
    read_layers(
        None, environment={"CRIIMAGE_ENDPOINT": "x", "CRIIMAGE_CONFIG": "y", "_CRIIMAGE_COMPLETE": "z"}
    ).settings()


NO_TEXT = b"/run/caf\xe9".decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("value", [NO_TEXT, f'["{NO_TEXT}"]', f'{{a = "{NO_TEXT}"}}'])
@pytest.mark.parametrize("key", ["listen", "pinned_images", "log", "backend", "backends.docker.host"])
def test_bytes_that_are_no_text_are_refused_where_they_stand(key: str, value: str) -> None:
    """A shell passes any bytes on, in flags and variables; nothing behind the settings can write them down."""
    variable = "CRIIMAGE_" + key.upper().replace(".", "__")
    with pytest.raises(ConfigurationError, match=rf"^environment variable {variable}: its bytes are no UTF-8$"):
        read_layers(None, environment={variable: value})
    with pytest.raises(ConfigurationError, match=rf"^flag for {key}: its bytes are no UTF-8$"):
        read_layers(None, [(key, read_value(value))], {})
    with pytest.raises(ConfigurationError, match=r"CRIIMAGE_A\\udcff: its bytes are no UTF-8$"):
        read_layers(None, environment={"CRIIMAGE_A\udcff": "x"})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("memory", "memory"),
        ('"memory"', "memory"),
        ("", ""),
        ("3", 3),
        ('"3"', "3"),
        ("true", True),
        ("True", "True"),
        ('["a", "b*"]', ["a", "b*"]),
        ("{a = 1}", {"a": 1}),
        ("[a", "[a"),
        ("/a/b c", "/a/b c"),
        ("127.0.0.1:9477", "127.0.0.1:9477"),
        ("60s", "60s"),
        ("a = b", "a = b"),
        ("1\nbackend = 2", "1\nbackend = 2"),
        ("1\n[log]", "1\n[log]"),
    ],
)
def test_text_is_read_as_toml_or_is_itself(text: str, value: object) -> None:
    """A flag's and a variable's value may be any TOML value; what is none needs no quotes."""
    assert read_value(text) == value


def test_a_variable_sets_lists_and_tables() -> None:
    """Design section 7: a table from the environment merges as deep as one from a file."""
    environment = {"CRIIMAGE_PINNED_IMAGES": '["a", "b*"]', "CRIIMAGE_LOG": '{level = "debug"}'}

    found = read_layers(None, [("log.format", "json")], environment).settings()

    assert found.pinned_images == ("a", "b*")
    assert (found.log.level, found.log.format) == ("debug", "json")


def test_a_value_and_a_table_may_take_each_others_place(config: Path) -> None:
    """The later layer wins as it is; the fault, if it is one, is told of that layer."""
    config.write_text("log = 3\n")
    path = drop_in(config, "a.toml", '[log]\nlevel = "debug"\n')
    assert read_layers(config, environment={}).settings().log.level == "debug"

    config.write_text('[log]\nlevel = "debug"\n')
    path.write_text("log = 3\n")
    assert fault(config).startswith(f"{path}, line 1: log: ")


def test_reading_again_starts_afresh(config: Path) -> None:
    """A reload sees files as they are now, and nothing of the reading before."""
    config.write_text('[backends.memory]\nx = 1\n[log]\nlevel = "debug"\n')
    first = read_layers(config, environment={})
    config.write_text("")

    assert read_layers(config, environment={}).merged == {}
    assert first.settings().log.level == "debug"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"max = {'9' * 5000}", "a number of more than 19 digits"),
        (f"max = {'9' * 40}", "a number of more than 19 digits"),
        (f"deep = {'[' * 20_000}{']' * 20_000}", "nested deeper than 32"),
        (f"{'.'.join('a' * 40)} = 1", "nested deeper than 32"),
    ],
    ids=["5000 digits", "40 digits", "brackets", "dotted key"],
)
def test_what_the_interpreter_allows_is_no_limit(tmp_path: Path, text: str, why: str) -> None:
    """Issue 14, A6: an integer or a nesting beyond all sense is a fault of that file, told with its path."""
    file = tmp_path / "config.toml"
    file.write_text(text)

    assert fault(file) == f"{file}: {why}"


def test_unreadable_is_never_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 14, A5: a default file and a drop-in that cannot be looked at are errors, not the defaults."""
    loop = tmp_path / "config.toml"
    loop.symlink_to("config.toml")
    monkeypatch.setattr(layers, "DEFAULT_CONFIG", loop)
    assert str(loop) in fault(None)

    loop.unlink()
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/10.toml").symlink_to("10.toml")
    assert str(tmp_path / "conf.d/10.toml") in fault(None)
