"""What is wrong with settings, in an operator's words: what a key takes, what stands there, and what may be meant.

A model tells it in its library's words and with names of our classes. Values are never shown: one may be a secret that
was written to the wrong key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from typing import TYPE_CHECKING, get_args, get_origin

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = ["Fault", "dotted", "faults_of"]

Path = tuple[str, ...]

_NO_SUCH = "no such key"
_TEXT = 'text in "quotes"'
_TAKES = {
    name: takes
    for names, takes in (
        ("string_type string_sub_type path_type bytes_type uuid_type", _TEXT),
        ("int_type int_parsing", "a whole number, without quotes"),
        ("int_parsing_size", "a smaller number"),
        ("int_from_float", "a whole number, without a fraction"),
        ("float_type float_parsing decimal_type decimal_parsing", "a number, without quotes"),
        ("finite_number", "a finite number"),
        ("bool_type bool_parsing", "true or false, without quotes"),
        ("list_type tuple_type set_type frozen_set_type deque_type iterable_type", 'a list, such as ["a", "b"]'),
        ("url_type url_parsing url_syntax_violation", 'a URL in "quotes"'),
        ("date_type date_parsing date_from_datetime_parsing", "a date, such as 2026-11-27"),
        ("time_type time_parsing", "a time, such as 07:30:00"),
        ("datetime_type datetime_parsing datetime_from_date_parsing", "a moment, such as 2026-11-27T07:30:00Z"),
        ("time_delta_type time_delta_parsing", "a length of time"),
    )
    for name in names.split()
}
"""By the library's names of its errors: what a key takes."""
_TABLES = frozenset(
    {"model_type", "model_attributes_type", "dataclass_type", "dataclass_exact_type", "named_tuple_type"}
)
_NAMED_TABLES = frozenset({"dict_type", "mapping_type", "frozen_dict_type", "ordered_dict_type"})
_CHOICES = frozenset({"literal_error", "enum"})
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_WITHIN = frozenset({*_BOUNDS, "finite_number", "int_parsing_size", "int_from_float"})
"""Faults of a value of the right kind."""
_GIVEN: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (str, "text"),
    ((int, float), "a number"),
    (Mapping, "a table"),
    ((list, tuple), "a list"),
    ((date, time), "a date or a time"),
)
_OWN = {"missing": "has to be set", "extra_forbidden": _NO_SUCH}
_VALIDATOR = re.compile(r"^(?:Value error|Assertion failed), ")
_LIBRARY = re.compile(
    r"\b(?i:argument|attribute|bytes|callable|counter|dictionary|discriminator|factory|frozen|hashable|input|instance|"
    r"integer|iterat\w+|JSON|None|object|python|recursion|sentinel|string|subclass|tuple|literal|valid)s?\b|\b[A-Z][a-z]+[A-Z]\w*"
)
"""Words of programmers, which tell an operator nothing."""
_SUBJECT = re.compile(r"^[\w ]+? should ")
_INSTEAD: dict[Path, tuple[Path, str, str]] = {
    ("socket",): (("listen",), "for the socket to serve on", "unix:///PATH"),
    ("backends",): (("backend",), "to choose one", "NAME"),
}
"""Text in the place of a table: the key that is meant, what that one is for, and a value of it."""
_ANY = "*"
"""Stands for the name of a table whose name is free."""
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LISTED = 8
"""So many keys of a table are named; of a larger one `config default` has to be read."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one key.

    Attributes:
        key: its path from the top of the settings.
        text: what is wrong, without any value, and nothing that depends on where the key was set.
        meant: the key that may have been meant.
        purpose: what that one is for, where it is not alike.
        example: a value for it.
    """

    key: Path
    text: str
    meant: Path = ()
    purpose: str = ""
    example: str = ""


def dotted(path: Iterable[str]) -> str:
    """Return a key's path as TOML has it: a part that is no bare key stands in quotes."""
    return ".".join(part if _BARE.fullmatch(part) else f'"{part}"' for part in path)


def faults_of(
    error: ValidationError,
    table: object,
    root: type[BaseModel],
    models: Mapping[str, type[BaseModel] | None],
    above: Path = (),
) -> Iterator[Fault]:
    """Yield what is wrong, each key once.

    Args:
        error: what a model says about `table`.
        table: as it was read.
        root: the model of all settings.
        models: of the installed backends, by their names; None for one whose keys are not known.
        above: the path of `table` from the top of the settings.
    """
    known = tuple(_keys(root, models))
    found: dict[tuple[Path, Path], list[ErrorDetails]] = {}
    for one in error.errors(include_url=False):
        found.setdefault(_place(one, table), []).append(one)
    for (key, inside), errors in found.items():
        path = (*above, *key)
        if inside:
            yield Fault(path, ": ".join((*inside, _told(errors))))
        elif any(one["type"] == "extra_forbidden" for one in errors):
            yield _unknown(path, errors[0]["input"], known, models)
        else:
            instead = _INSTEAD.get(path) if isinstance(errors[0]["input"], str) else None
            told = _told(errors, path, () if instead else _below(path, known))
            yield Fault(path, told, *(instead or ()))


def _place(one: ErrorDetails, value: object) -> tuple[Path, Path]:
    """Return the path of a key, and what of its value is meant; names of ours for kinds of a value are left out."""
    key: list[str] = []
    inside: list[str] = []
    for part in one["loc"]:
        if isinstance(value, dict) and part in value:
            value = value[part]
            inside.append(str(part)) if inside else key.append(str(part))
        elif isinstance(value, list | tuple) and isinstance(part, int) and part < len(value):
            value = value[part]
            inside.append(f"entry {part + 1}")
        elif one["type"] == "missing" and part == one["loc"][-1]:
            inside.append(str(part)) if inside else key.append(str(part))
    return tuple(key), tuple(inside)


def _told(errors: list[ErrorDetails], key: Path = (), below: Sequence[str] = ()) -> str:
    takes = [wanted for one in errors if (wanted := _taken(one, key))]
    others = [_own_words(one) for one in errors if not _taken(one, key)]
    if takes:
        value = errors[0]["input"]
        others.insert(0, f"must be {' or '.join(dict.fromkeys(takes))}{_not_given(errors[0]['type'], value)}")
        others += _choice_meant(errors[0], value)
    if key == ("backend",) and isinstance(errors[0]["input"], dict):
        others.append("a backend's own table is [backends.NAME]")
    elif 0 < len(below) <= _LISTED and errors[0]["type"] in _TABLES:
        others.append(f"its keys: {', '.join(below)}")
    return "; ".join(dict.fromkeys(others))


def _taken(one: ErrorDetails, key: Path) -> str:
    """Return what a key takes, or nothing where the library's or a validator's own words have to do."""
    kind, context = one["type"], one.get("ctx", {})
    if kind in _TAKES:
        return _TAKES[kind]
    if kind in _NAMED_TABLES and key and key[:-1] != ("backends",):
        return f'a table of tables, [{dotted(key)}."NAME"]'
    if kind in _TABLES or kind in _NAMED_TABLES:
        return f"a table, [{dotted(key)}]" if key else "a table"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"{words} {context[name]:.15g}" if isinstance(context[name], float) else f"{words} {context[name]}"
    if kind in _CHOICES:
        # Listed as 'a', 'b' or 'c'.
        return str(context["expected"]).replace("'", '"')
    return ""


def _choice_meant(one: ErrorDetails, value: object) -> list[str]:
    if one["type"] not in _CHOICES or not isinstance(value, str):
        return []
    choices = re.findall(r"'([^']+)'", str(one.get("ctx", {}).get("expected", "")))
    return [f'did you mean "{close}"?' for close in _close(value.lower(), choices)]


def _not_given(kind: str, value: object) -> str:
    if kind in _WITHIN or (kind in _CHOICES and isinstance(value, str)):
        return ""
    return f", not {_given(value)}"


def _given(value: object) -> str:
    """Return what stands there, without the value itself."""
    if isinstance(value, bool):
        return "true or false"
    for kinds, words in _GIVEN:
        if isinstance(value, kinds):
            return words
    return "that"


def _own_words(one: ErrorDetails) -> str:
    if one["type"] in _OWN:
        return _OWN[one["type"]]
    text, validator = _VALIDATOR.subn("", one["msg"])
    if validator:
        return text
    text = _SUBJECT.sub("must ", text).replace(" after validation", "")
    return f"cannot be {_given(one['input'])} like this" if _LIBRARY.search(text) else text


def _unknown(key: Path, value: object, known: Sequence[Path], backends: Iterable[str]) -> Fault:
    if isinstance(value, dict) and (table := _split_name(key, known)):
        return Fault(key, f"{_NO_SUCH}; a name with dots stands in quotes: [{dotted(table)}]")
    above, name = key[:-1], key[-1]
    if above and (name,) in known and not isinstance(value, dict) and not _below((name,), known):
        return Fault(key, _NO_SUCH, (name,))
    if meant := _meant(key, known, backends):
        return Fault(key, _NO_SUCH, meant)
    siblings = _below(above, known)
    if above and 0 < len(siblings) <= _LISTED:
        return Fault(key, f"{_NO_SUCH}; [{dotted(above)}] has {', '.join(siblings)}")
    return Fault(key, f"{_NO_SUCH}; `criimage config default` prints all")


def _split_name(key: Path, known: Iterable[Path]) -> Path:
    """Return the path of a table with a free name whose dots were taken for ends of parts; else nothing."""
    for depth in range(1, len(key) - 1):
        if any(path[: depth + 1] == (*key[:depth], _ANY) for path in known):
            return (*key[:depth], ".".join(key[depth:]))
    return ()


def _meant(key: Path, known: Sequence[Path], backends: Iterable[str]) -> Path:
    above, name = key[:-1], key[-1]
    alike = [path for path in known if _flat(path) == _flat(key)]
    if not above and name in backends:
        alike.append(("backends", name))
    alike += [(*above, close) for close in _close(name, _below(above, known))]
    if alike:
        return alike[0]
    elsewhere = [path for path in known if path[-1] == name and _ANY not in path and not _below(path, known)]
    return elsewhere[0] if len(elsewhere) == 1 else ()


def _close(name: str, names: Iterable[str]) -> list[str]:
    import difflib  # for what is wrong only

    return difflib.get_close_matches(name, names, n=1)


def _below(key: Path, known: Sequence[Path]) -> list[str]:
    """Return the keys of a table."""

    def fits(path: Path) -> bool:
        return len(path) == len(key) + 1 and all(part in {_ANY, own} for part, own in zip(path, key, strict=False))

    return [path[-1] for path in known if fits(path) and path[-1] != _ANY]


def _flat(path: Path) -> str:
    return "_".join(path).lower().replace("-", "_").replace(".", "_")


def _keys(model: type[BaseModel], models: Mapping[str, type[BaseModel] | None], above: Path = ()) -> Iterator[Path]:
    """Yield the path of every table and key that there is."""
    for name, field in model.model_fields.items():
        path = (*above, name)
        yield path
        if path == ("backends",):
            for backend, own in models.items():
                yield (*path, backend)
                if own is not None:
                    yield from _keys(own, models, (*path, backend))
            continue
        kind = field.annotation
        if get_origin(kind) is dict:
            kind, path = get_args(kind)[1], (*path, _ANY)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _keys(kind, models, path)
