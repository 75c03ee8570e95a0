"""Claims: the page on settings has every key there is, with its default, and no other."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, get_args

import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from criimage.cli import main
from criimage.plugins import installed, load
from criimage.settings import Settings
from documentation.pages import DOCS, code, definitions, page, sections

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = '"HOST"'
OURS = [backend.name for backend in installed() if backend.distribution == "criimage"]


def tables(model: type[BaseModel], name: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yields a model's own table and those below it; the backends' are other models."""
    yield name, model
    for key, field in model.model_fields.items():
        below = f"{name}.{key}" if name else key
        inner = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        for kind in inner:
            if issubclass(kind, BaseModel):
                yield from tables(kind, below if kind is field.annotation else f"{below}.{HOST}")


def is_table(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def defaults(model: type[BaseModel]) -> dict[str, Any]:
    """Each key that is no table with its default, as a settings file would say it."""
    shown = model.model_construct().model_dump(mode="json")
    return {key: shown[key] for key, field in model.model_fields.items() if not is_table(field.annotation)}


def title(table: str) -> str:
    return f"[{table}]" if table else "Top level"


def check_table(section: str, model: type[BaseModel], leave_out: str = "") -> None:
    found = definitions(section)
    wanted = {key: value for key, value in defaults(model).items() if key != leave_out}
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        if value is None:
            assert found[key].startswith("Default: "), key
        else:
            assert tomllib.loads(f"value = {code(found[key])[0]}")["value"] == value, key
            assert found[key].startswith("Default `"), key


def test_every_table_of_the_core_is_documented_with_every_key_and_default() -> None:
    """The core's tables: keys and defaults of the page are those of the models."""
    found = sections(page("reference/settings"))
    models = dict(tables(Settings, ""))
    for table, model in models.items():
        check_table(found[title(table)], model, leave_out="" if table else "backends")
    core = {name for name in found if name.startswith("[") and not name.startswith("[backends.")}
    assert core == {title(table) for table in models if table}


@pytest.mark.parametrize("name", OURS)
def test_every_key_of_our_backends_is_documented(name: str) -> None:
    """A backend's keys stand on the page on settings with their defaults, or at least on the backend's own page."""
    model = load(name).settings_model
    section = sections(page("reference/settings")).get(f"[backends.{name}]")
    if section is not None:
        check_table(section, model)
    elif model.model_fields:
        assert model.model_fields.keys() <= set(code((DOCS / "backends" / f"{name}.md").read_text("utf-8")))


def test_no_backend_is_documented_that_is_not_there() -> None:
    """Tables and pages of backends are those of installed ones."""
    named = {name.split(".", 1)[1].strip("]") for name in sections(page("reference/settings")) if "[backends." in name}
    pages = {file.stem for file in (DOCS / "backends").glob("*.md")}
    assert named | pages <= set(OURS)


def test_the_example_is_valid() -> None:
    """The example on the page is read without an error, its backend's table included."""
    example = sections(page("reference/settings"))["Example"].partition("```toml\n")[2].partition("```")[0]
    settings = Settings.model_validate(tomllib.loads(example))
    load(settings.backend).settings_model.model_validate(settings.backends[settings.backend])


def test_every_toml_in_the_guides_is_valid() -> None:
    """Each TOML block of the guides that is criimage's own is read without an error."""
    seen = 0
    for file in (*(DOCS / "guide").glob("*.md"), *(DOCS / "backends").glob("*.md")):
        for block in file.read_text("utf-8").split("```toml\n")[1:]:
            document = tomllib.loads(block.partition("```")[0])
            if "registry" in document:
                continue  # registries.conf
            settings = Settings.model_validate(document)
            for name, table in settings.backends.items():
                load(name).settings_model.model_validate(table)
            seen += 1
    assert seen >= 5


def test_config_default_prints_a_valid_file() -> None:
    """What `criimage config default` prints is a settings file that sets nothing, as the page on commands says."""
    result = CliRunner().invoke(main, ["config", "default"])
    assert result.exit_code == 0
    assert tomllib.loads(result.stdout) == {}
