"""Backends by entry point: who is installed, who may be opened, and that one's fault is nobody else's."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from criimage.errors import ConfigurationError
from criimage.plugins import CONTRACT, installed, load
from plugins.distributions import install, plugin_source

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on this process's path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def names() -> list[str]:
    """The installed backends' names."""
    return [backend.name for backend in installed()]


def test_our_own_backends_are_installed() -> None:
    """Ecosystem, layout A: our backends come by entry point as anybody's do, sorted by name."""
    assert {"containers-storage", "memory"} <= set(names())
    assert names() == sorted(names())


def test_every_installed_backend_can_be_loaded() -> None:
    """A wheel brings no entry point that leads nowhere; each plugin is named as its entry point."""
    for backend in installed():
        plugin = load(backend.name)

        assert plugin.name == backend.name
        assert plugin.contract == CONTRACT
        assert plugin.settings_model.model_config.get("extra") == "forbid"


def test_a_third_partys_backend_is_listed_with_its_distribution(site: Path) -> None:
    """A backend of another distribution needs nothing but its installation."""
    install(
        site, "criimage_mystore", {"my-store": "tp_fine:plugin"}, {"tp_fine": plugin_source("my-store")}, version="7"
    )

    found = next(backend for backend in installed() if backend.name == "my-store")

    assert (found.distribution, found.version) == ("criimage_mystore", "7")
    assert load("my-store").settings_model().colour == "red"


def test_an_unknown_backend_tells_what_is_installed() -> None:
    """Design section 7: who mistypes a name learns the right ones."""
    with pytest.raises(ConfigurationError, match=r'no backend "dokcer" is installed; installed: .*memory'):
        load("dokcer")


def test_a_name_claimed_twice_is_refused(site: Path) -> None:
    """Ecosystem, layout A: neither of two claims wins silently; both owners are named, and others still load."""
    install(site, "first", {"double": "tp_first:plugin"}, {"tp_first": plugin_source("double")})
    install(site, "second", {"double": "tp_second:plugin"}, {"tp_second": plugin_source("double")}, version="2.5")

    assert names().count("double") == 2
    with pytest.raises(ConfigurationError, match=r'"double" is claimed by first 1\.0 and second 2\.5'):
        load("double")
    assert load("memory").name == "memory"


def test_nobody_takes_over_one_of_our_names(site: Path) -> None:
    """Ecosystem, layout A: a distribution that claims `memory` disables it rather than replaces it."""
    install(site, "intruder", {"memory": "tp_intruder:plugin"}, {"tp_intruder": plugin_source("memory")})

    with pytest.raises(ConfigurationError, match=r"criimage .* and intruder"):
        load("memory")


def test_one_distribution_seen_twice_is_no_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source checkout on the path beside its installation is one claim."""
    for folder in (tmp_path / "a", tmp_path / "b"):
        install(folder, "twice", {"twice": "tp_twice:plugin"}, {"tp_twice": plugin_source("twice")})
        monkeypatch.syspath_prepend(str(folder))

    assert names().count("twice") == 1
    assert load("twice").name == "twice"


BROKEN = {
    "a syntax error": ("broken_syntax:plugin", {"broken_syntax": "def"}, "SyntaxError"),
    "a missing dependency": ("broken_import:plugin", {"broken_import": "import no_such_module"}, "no_such_module"),
    "an error at import": ("broken_raise:plugin", {"broken_raise": "1 / 0"}, "ZeroDivisionError"),
    "an exit at import": ("broken_exit:plugin", {"broken_exit": "raise SystemExit(3)"}, "SystemExit"),
    "no module": ("broken_missing:plugin", {}, "broken_missing"),
    "no attribute": ("broken_attribute:plugin", {"broken_attribute": ""}, "plugin"),
    "no target": ("!!", {}, "cannot be imported"),
    "no plugin": ("broken_type:plugin", {"broken_type": "plugin = {}"}, "is no criimage.plugins.Plugin but dict"),
    "a module": ("broken_module", {"broken_module": ""}, "is no criimage.plugins.Plugin but module"),
    "another contract": (
        "broken_contract:plugin",
        {"broken_contract": plugin_source("broken", CONTRACT + 1)},
        f"was written for contract {CONTRACT + 1}, this criimage has {CONTRACT}",
    ),
    "another name": ("broken_name:plugin", {"broken_name": plugin_source("other")}, 'calls itself "other"'),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_backend_disturbs_nobody(site: Path, fault: str) -> None:
    """Ecosystem, layout A: it is listed, the reason is told when it is chosen, and all others work."""
    target, modules, told = BROKEN[fault]
    install(site, "badly", {"broken": target}, modules)

    assert "broken" in names()
    assert load("memory").name == "memory"
    with pytest.raises(ConfigurationError) as caught:
        load("broken")
    assert 'backend "broken" of badly 1.0' in caught.value.text
    assert told in caught.value.text


def test_a_distribution_without_metadata_is_listed(site: Path) -> None:
    """A removal by half leaves entry points without metadata; listing goes on."""
    install(site, "halfway", {"half": "tp_half:plugin"}, metadata=False)

    found = next(backend for backend in installed() if backend.name == "half")

    assert (found.distribution, found.version) == ("unknown", "unknown")


def _criimage(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "criimage", *arguments],
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_listing_imports_no_backend(tmp_path: Path) -> None:
    """Listing is what every start does: it runs no third party's code, nor our backends'."""
    install(tmp_path, "loud", {"loud": "tp_loud:plugin"}, {"tp_loud": "raise SystemExit('imported')"})
    code = (
        "import sys; from criimage.plugins import installed; "
        "assert 'loud' in [backend.name for backend in installed()]; "
        "print([name for name in sys.modules if name.startswith(('tp_', 'criimage_', 'criimage.testing', 'pydantic'))])"
    )
    command = [sys.executable, "-c", code]

    ended = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)

    assert (ended.stdout, ended.stderr) == ("[]\n", "")


def test_the_command_lists_faults_beside_what_works(tmp_path: Path) -> None:
    """`criimage backends` names every installed backend, and what is wrong with it, in both forms, and succeeds."""
    install(tmp_path, "badly", {"broken": "tp_bad:plugin"}, {"tp_bad": "import no_such_module"})
    install(tmp_path, "good", {"mine": "tp_good:plugin"}, {"tp_good": plugin_source("mine")}, version="3.1")

    table = _criimage(tmp_path, "backends")
    rows = {
        row["name"]: row for row in json.loads(_criimage(tmp_path, "backends", "--output", "json").stdout)["backends"]
    }

    assert table.returncode == 0
    assert table.stderr == ""
    assert rows["mine"] == {"name": "mine", "distribution": "good", "version": "3.1", "error": "", "remedy": ""}
    assert rows["memory"]["error"] == ""
    assert "no_such_module" in rows["broken"]["error"]
    lines = {line.split()[0]: line for line in table.stdout.splitlines()}
    assert set(lines) >= set(rows)
    assert "no_such_module" in lines["broken"]
    assert lines["mine"].split() == ["mine", "good", "3.1"]


def test_why_a_backend_cannot_be_used_and_what_to_do(tmp_path: Path) -> None:
    """An extra that is not installed, another contract, an import that fails: a short reason and a remedy for each."""
    more = 'open_backend, extra="engine", extra_modules=("json", "no_such_engine"))'
    extra = plugin_source("bare").replace("open_backend)\n", more)
    old = plugin_source("old", contract=99)
    failing = "raise RuntimeError('x' * 10_000)"
    install(tmp_path, "of_bare", {"bare": "tp_bare:plugin"}, {"tp_bare": extra})
    install(tmp_path, "of_old", {"old": "tp_old:plugin"}, {"tp_old": old})
    install(tmp_path, "of_missing", {"missing": "tp_missing:plugin"}, {"tp_missing": "import no_such_module"})
    install(tmp_path, "of_failing", {"failing": "tp_failing:plugin"}, {"tp_failing": failing})

    listed = json.loads(_criimage(tmp_path, "backends", "--output", "json").stdout)["backends"]
    told = {row["name"]: (row["error"], row["remedy"]) for row in listed}
    table = _criimage(tmp_path, "backends").stdout

    assert told["bare"] == (
        "no_such_engine not installed",
        "install of_bare[engine]; in a clone of it: pip install '.[engine]'",
    )
    assert told["old"][0] == f"was written for contract 99, this criimage has {CONTRACT}"
    assert told["missing"][0].startswith("cannot be imported: ModuleNotFoundError: No module named 'no_such_module'")
    assert told["missing"][1] == "install the module no_such_module, or uninstall of_missing"
    assert told["failing"][0].startswith("cannot be imported: RuntimeError: xxx")
    assert len(told["failing"][0]) <= 300
    assert told["memory"] == ("", "")
    for reason, remedy in told.values():
        assert bool(reason) == bool(remedy)
        assert reason in table
        assert remedy in table


def test_the_modules_of_our_extras_are_those_that_are_asked_for() -> None:
    """The docker backend says which extra brings its library, so that its absence shows before it is opened."""
    plugin = load("docker")
    assert (plugin.extra, plugin.extra_modules) == ("docker", ("aiodocker", "aiohttp"))
    assert {name for name in names() if load(name).extra} == {"docker"}


@pytest.mark.parametrize("command", [["serve"], ["config", "dump"], ["config", "check"]])
def test_a_broken_choice_is_one_readable_line(tmp_path: Path, command: list[str]) -> None:
    """Design section 7: a chosen backend that cannot be loaded ends with code 2 and the reason, without a traceback."""
    install(tmp_path, "badly", {"broken": "tp_bad:plugin"}, {"tp_bad": "import no_such_module"})

    ended = _criimage(tmp_path, *command, "--backend", "broken", "--set", f"listen=unix://{tmp_path}/s")

    assert ended.returncode == 2
    errors = [line for line in ended.stderr.splitlines() if not line.startswith("#")]
    assert errors == [
        (
            'Error: flag for backend: backend "broken" of badly 1.0 cannot be imported: '
            "ModuleNotFoundError: No module named 'no_such_module'"
        )
    ]
