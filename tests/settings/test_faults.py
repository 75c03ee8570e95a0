"""Faults in settings are told in an operator's words: place, key, what the key takes, what may be meant (issue 14)."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, get_args, get_origin

import pytest
from pydantic import AnyUrl, BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails
from pydantic_core._pydantic_core import list_all_errors

from criimage import plugins
from criimage.cli.config import example_settings
from criimage.errors import ConfigurationError
from criimage.foreign_toml import key_lines, parse_toml
from criimage.plugins import installed, load
from criimage.settings import Settings, layers, read_layers
from criimage.settings.faults import faults_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OURS = {name: load(name) for name in ("containers-storage", "cri", "docker", "memory")}
INSTALLED = installed()

INTERNAL = re.compile(
    r"[Ii]nput|should|instance|dictionary|tuple|integer|boolean|valid|string|object|pydantic|None|True|False|"
    r"\b(?:str|int|float|bool|dict|list\[)\b|\w+Settings|Error"
)
"""Words of the library, of Python and of our code."""

VALUES = {
    "text": '"c4n4ry"',
    "number": "7777777",
    "fraction": "7777777.5",
    "truth": "true",
    "list": '["c4n4ry"]',
    "list of numbers": "[7777777]",
    "table": "{named = 7777777}",
    "date": "1977-07-07",
    "moment": "1977-07-07T07:30:00Z",
}
"""One value of each kind that TOML has."""


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "DEFAULT_CONFIG", tmp_path / "nowhere" / "config.toml")
    # What is installed does not change here, and is looked for at each fault.
    monkeypatch.setattr(plugins, "installed", lambda: INSTALLED)


def told(text: str, file: Path, environment: dict[str, str] | None = None) -> str:
    """What is wrong with a settings file, as `config check` tells it; the empty text if nothing is."""
    file.write_text(text)
    try:
        read = read_layers(file, environment=environment or {})
        settings = read.settings()
        with read.placing():
            if settings.backend not in OURS:
                load(settings.backend)
        for plugin in OURS.values():
            read.backend_settings(plugin)
    except ConfigurationError as error:
        return error.text
    return ""


def every_key(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, object]]:
    """Every key and table of a model with the kind of value it takes."""
    for name, field in model.model_fields.items():
        yield f"{above}{name}", field.annotation
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from every_key(field.annotation, f"{above}{name}.")


KEYS = [
    *every_key(Settings),
    *(found for name, plugin in OURS.items() for found in every_key(plugin.settings_model, f"backends.{name}.")),
    *((f"backends.{name}", dict) for name in OURS),
    ('pulls.registry."a.io"', dict),
    ('pulls.registry."a.io".max_parallel', int),
]


def takes(annotation: object) -> set[str]:
    """Which of the kinds of value may be right for a key."""
    kinds = {annotation, *get_args(annotation)}
    right: set[str] = set()
    if str in kinds and get_origin(annotation) is not tuple:
        right.add("text")
    if int in kinds:
        right.add("number")
    if float in kinds:
        right |= {"number", "fraction", "text"}  # a length of time
    if bool in kinds:
        right.add("truth")
    if get_origin(annotation) is tuple:
        right |= {"list"} | ({"list of numbers"} if "int" in str(annotation) else set())
    return right


@pytest.mark.parametrize(("key", "annotation"), KEYS, ids=[key for key, _ in KEYS])
def test_a_value_of_another_kind_is_told_in_plain_words(tmp_path: Path, key: str, annotation: object) -> None:
    """Every key with a value of every kind of TOML: a wrong one is refused with line and key, and never shown."""
    file = tmp_path / "config.toml"
    for kind, value in VALUES.items():
        text = told(f"# one\n\n{key} = {value}\n", file)
        if not text:
            assert kind in takes(annotation), f"{key} = {value} was taken"
            continue
        assert text.startswith(f"{file}, line 3: {key}"), text
        said = text.removeprefix(f"{file}, line 3: ").replace(key, "")
        assert not INTERNAL.search(said), text
        assert "7777777" not in said
        assert "1977" not in said
        if kind not in takes(annotation):
            assert "c4n4ry" not in said


def test_no_fault_that_the_library_knows_is_told_in_its_words() -> None:
    """A backend of somebody else may use any type of its own: what comes of it is still told in plain words."""
    told_by_type: dict[str, str] = {}
    for known in list_all_errors():
        kind = known["type"]
        if kind in {"value_error", "assertion_error"}:
            continue  # the text of whoever wrote the model
        example = (known.get("example_context") or {}).items()
        context = {name: "c4n4ry" if value == "" else value for name, value in example}
        one = InitErrorDetails(type=kind, loc=("log", "level"), input="c4n4ry", ctx=context)
        error = ValidationError.from_exception_data("x", [one])
        (fault,) = faults_of(error, {"log": {"level": "c4n4ry"}}, Settings, {})
        told_by_type[kind] = fault.text
    assert len(told_by_type) > 80
    assert {kind: text for kind, text in told_by_type.items() if INTERNAL.search(text)} == {}


class Others(BaseModel):
    """A backend's settings with kinds of value that ours do not have."""

    model_config = ConfigDict(extra="forbid")

    several: str | int | list[str] = ""
    mirrors: list[dict[str, int]] = []
    home: AnyUrl = AnyUrl("http://a.io")
    needed: str


@pytest.mark.parametrize(
    ("table", "faults"),
    [
        (
            {"several": 1.5, "needed": ""},
            {"several": 'must be text in "quotes" or a whole number, without a fraction or a list, such as ["a", "b"]'},
        ),
        ({"mirrors": [{"a": 1}, {"a": "x"}], "needed": ""}, {"mirrors": "entry 2: a: must be a whole number"}),
        ({"mirrors": [[]], "needed": ""}, {"mirrors": "entry 1: must be a table, not a list"}),
        ({"home": "x", "needed": ""}, {"home": 'must be a URL in "quotes"'}),
        ({}, {"needed": "has to be set"}),
    ],
)
def test_kinds_of_value_that_ours_do_not_have(table: dict[str, object], faults: dict[str, str]) -> None:
    """One that may be of several kinds has one fault that names them, an entry of a list is counted from one."""
    with pytest.raises(ValidationError) as caught:
        Others.model_validate(table)

    found = list(faults_of(caught.value, table, Settings, {"others": Others}, ("backends", "others")))

    assert [fault.key for fault in found] == [("backends", "others", key) for key in faults]
    for fault, text in zip(found, faults.values(), strict=True):
        assert fault.text.startswith(text)


@pytest.mark.parametrize(
    ("text", "line", "fault"),
    [
        ('socket = "/tmp/x.sock"', 1, 'for the socket to serve on write listen = "unix:///PATH" above the first table'),
        ('backends = "docker"', 1, 'to choose one write backend = "NAME" above the first table'),
        ('[backend.docker]\nhost = "x"', 1, "a backend's own table is [backends.NAME]"),
        ('log = "debug"', 1, "log: must be a table, [log], not text; its keys: level, format"),
        ('[log]\nlevel = "info"\nlisten = "/x"', 3, "log.listen: no such key; listen stands above the first table"),
        ('level = "debug"', 1, "level: no such key; did you mean log.level?"),
        ('log_level = "debug"', 1, "log_level: no such key; did you mean log.level?"),
        ('[docker]\nhost = "x"', 1, "docker: no such key; did you mean backends.docker?"),
        ("[metrics]\nport = 9477", 2, "metrics.port: no such key; [metrics] has address, aliases"),
        ("[backends.docker]\nsocket = 1", 2, "[backends.docker] has host, cert_path, request_timeout, cache,"),
        ("[pulls.registry.docker.io]\nmax_parallel = 1", 1, '[pulls.registry."docker.io"]'),
        ('[pulls.registry."a.io"]\n\nmax_paralel = 1', 3, "no such key; did you mean max_parallel?"),
        ("[pulls]\ntotal_timeout = 60", 2, 'has no unit; it is written as "60s", "1m30s", "500ms" or "0s"'),
        ("[pulls]\nmax_parallel = true", 2, "must be a number, without quotes, not true or false"),
        ("[pulls]\nmax_parallel = -1", 2, "must be at least 0"),
        ("[pulls]\nmax_parallel = 1.5", 2, "must be a whole number, without a fraction"),
        ('[log]\nlevel = "WARN"', 2, '"debug", "info", "warning" or "error"; did you mean "warning"?'),
        ('pinned_images = [\n  "a",\n  3,\n]', 1, 'pinned_images: entry 2: must be text in "quotes", not a number'),
        ("[socket]\nallowed_users = [0, true]", 2, "entry 2 is neither the name nor the number of a user"),
        ('backend = "dokcer"', 1, "backend: no backend"),
        ('[backends.containers-storage]\ndriver = "Overlay"', 2, "must be small letters and digits, such as overlay"),
    ],
)
def test_what_operators_mistype_is_told_with_what_they_may_mean(
    tmp_path: Path, text: str, line: int, fault: str
) -> None:
    """The mistakes of a first hour, each with its line and with what would be right."""
    file = tmp_path / "config.toml"

    found = told(text, file)

    assert found.startswith(f"{file}, line {line}: "), found
    assert fault in found


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("CRIIMAGE_LOG_LEVEL", "CRIIMAGE_LOG__LEVEL"),
        ("CRIIMAGE_LOG__LEVLE", "CRIIMAGE_LOG__LEVEL"),
        ("CRIIMAGE_BACKENDS_CONTAINERS_STORAGE_ROOT", "CRIIMAGE_BACKENDS__CONTAINERS_STORAGE__ROOT"),
    ],
)
def test_what_is_meant_by_a_variable_is_a_variable(tmp_path: Path, variable: str, meant: str) -> None:
    """The suggestion can be typed as it is: the tables of a variable's name are told apart by two underscores."""
    found = told("", tmp_path / "config.toml", {variable: "x"})

    assert found.startswith(f"environment variable {variable}: ")
    assert found.endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize(
    ("key", "value", "variable", "flag"),
    [
        ("log.listen", "/x", "; did you mean CRIIMAGE_LISTEN?", "; did you mean listen?"),
        (
            "socket",
            "/x",
            "; for the socket to serve on set CRIIMAGE_LISTEN=unix:///PATH",
            "; for the socket to serve on give --set listen=unix:///PATH",
        ),
        ("backends", "memory", "; to choose one set CRIIMAGE_BACKEND=NAME", "; to choose one give --set backend=NAME"),
    ],
)
def test_a_variable_and_a_flag_have_no_place_in_a_file(
    tmp_path: Path, key: str, value: str, variable: str, flag: str
) -> None:
    """What is told of a key's place in a file helps nobody who set it elsewhere: they are told in their own way."""
    file = tmp_path / "config.toml"
    file.write_text("")
    by_variable = read_layers(file, environment={f"CRIIMAGE_{key.upper().replace('.', '__')}": value})
    by_flag = read_layers(file, [(key, value)], environment={})
    for read, hint in ((by_variable, variable), (by_flag, flag)):
        with pytest.raises(ConfigurationError) as caught:
            read.settings()
        assert caught.value.text.endswith(hint)
        assert "above the first table" not in caught.value.text


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("backend = memory", ', line 1, column 11: no value that TOML knows; text stands in "quotes"'),
        ("[pulls]\ntotal_timeout = 60s", ", line 2, column 19: the line should end before this; text stands"),
        ('backend = "memory', ": at its end: the quote that ends the text is missing"),
        ('backend = "memory\nlisten = "x"', ", line 1, column 18: the quote that ends the text is missing"),
        ('[log]\nlevel = "info"\n[log]\nformat = "json"', "the table [log] is there already; put its keys together"),
        ("a = 1\na = 2\n", "it has a value already"),
        ('listen: "unix:///x"', ", line 1, column 7: a = after the key is missing"),
        ('backend "memory"', ", line 1, column 9: a = after the key is missing"),
        ('pinned_images = ["a", "b"', ": at its end: the ] that ends the list is missing"),
        ("log = {level = 1", ": at its end: the } that ends the table is missing"),
        ("[log\nlevel = 1", ", line 1, column 5: the ] after the table's name is missing"),
        ('listen = "C:\\path"', r"a \ in "),
        ("{", ", line 1, column 1: no key and no [table] begins here"),
    ],
)
def test_what_is_no_toml_is_told_in_plain_words(tmp_path: Path, text: str, fault: str) -> None:
    """Python's reader of TOML has words of its own, and another Python has others."""
    file = tmp_path / "config.toml"

    found = told(text, file)

    assert found.startswith(f"{file}{fault}" if fault[0] in ",:" else f"{file}, line "), found
    assert fault in found


def test_text_in_another_encoding_is_told_with_its_line(tmp_path: Path) -> None:
    """TOML is UTF-8: an editor that writes Latin-1 is found by the line with the first such sign."""
    with pytest.raises(ValueError, match=r"^line 2: this is no text in UTF-8$"):
        parse_toml('a = 1\nb = "ä"\n'.encode("latin-1"))


def test_keys_have_the_lines_on_which_their_statements_begin() -> None:
    """What looks like a table inside of a text is none; a list over many lines begins on its first."""
    text = (
        "# a comment\n"
        "\n"
        'a = """\n'
        "[no.table]\n"
        'no = 1"""\n'
        "b = [\n"
        '  "x", # ]\n'
        "]\n"
        'c.d = {e = 1, "f g" = {}}\n'
        "[t.'u v']\n"
        "w = 'a = 2'\n"
        "[[t.x]]\n"
        "y = 1\n"
        "[t]\n"
        "z = 2"
    )

    assert key_lines(text) == {
        ("a",): 3,
        ("b",): 6,
        ("c",): 9,
        ("c", "d"): 9,
        ("c", "d", "e"): 9,
        ("c", "d", "f g"): 9,
        ("t",): 10,
        ("t", "u v"): 10,
        ("t", "u v", "w"): 11,
        ("t", "x"): 12,
        ("t", "x", "y"): 13,
        ("t", "z"): 15,
    }


def test_every_key_of_the_example_has_its_line() -> None:
    """The whole of `config default`, made live: each key is found on the line on which it stands."""
    lines = [re.sub(r"^#(?! )", "", line) for line in example_settings()]
    live = "\n".join(line for line in lines)
    assert tomllib.loads(live)

    found = key_lines(live)

    named = [number for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
    assert set(named) == set(found.values())
    for path, number in found.items():
        assert path[-1] in lines[number - 1] or f"[{path[0]}" in lines[number - 1]


def test_the_lines_of_a_long_value_do_not_cost_its_square() -> None:
    """A list over 20,000 lines, each of which could be its end: what comes after it is told without a line."""
    found = key_lines("a = 1\nb = [\n" + "1,\n" * 20_000 + "]\nc = 1\n")

    assert found == {("a",): 1}


def test_names_of_all_backends_are_known_here() -> None:
    """This page walks through every backend that comes with criimage."""
    assert {one.name for one in INSTALLED if one.distribution == "criimage"} == set(OURS)
