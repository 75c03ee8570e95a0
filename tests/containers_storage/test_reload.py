"""registries.conf changes while the backend works: the new one counts, a broken one does not."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest
import structlog

from cli.command import at_once
from containers_storage.opened import opened
from containers_storage.test_names import Trusting
from criimage import errors
from criimage.files import UnreadableFile
from criimage.reference import Name, Reference
from criimage.testing.oci import image, layer
from criimage_containers_storage.config_files import ConfigFiles, RuleSet, registries_files
from criimage_containers_storage.registries.current import CurrentRegistries
from criimage_containers_storage.registries.judge import Judge
from criimage_containers_storage.registries.registries_conf import read_registries
from parts.criimage_process import criimage, store_config
from parts.registry import registry
from parts.store import insecure_registries, store

if TYPE_CHECKING:
    from pathlib import Path

    from criimage_containers_storage.registries.registries_conf import Registries

SMALL = image(layer({"a": b"a"}))
BROKEN = "[[registry"


def with_search(*registries: str) -> str:
    """A main file with search registries, on which plain HTTP on this machine is allowed."""
    listed = ", ".join(f'"{one}"' for one in registries)
    return f"unqualified-search-registries = [{listed}]\n" + insecure_registries("127.0.0.1")


def three(folder: Path, main: str) -> tuple[ConfigFiles, CurrentRegistries]:
    """A main file, a folder of drop-ins, aliases; and what reads them."""
    (folder / "d").mkdir()
    (folder / "work").mkdir()
    (folder / "main.conf").write_text(main)
    files = ConfigFiles((folder / "main.conf",), (folder / "d",), chosen=True)
    return files, CurrentRegistries(lambda: files, folder / "aliases.conf", folder / "work", Trusting())


def test_a_broken_main_file_leaves_the_last_one_in_force(tmp_path: Path) -> None:
    """Names, blocks and skopeo's own copy stay; it is logged once, and drop-ins still count (C2, C1 reload)."""
    block = '[[registry]]\nlocation = "bad.io"\nblocked = true\n'
    files, current = three(tmp_path, 'unqualified-search-registries = ["a.io"]\n' + block)
    good = files.main.read_bytes()
    assert current.for_pull().main is None
    with structlog.testing.capture_logs() as logs:
        files.main.write_text(BROKEN)
        for _ in range(3):
            configuration = current.for_pull()
            registries, for_skopeo = configuration.registries, configuration.main
            assert registries.search == ("a.io",)
            found = registries.find(Reference.parse("bad.io/x:1"))
            assert found is not None
            assert found.blocked
            assert for_skopeo is not None
            assert for_skopeo.parent == tmp_path / "work"
            assert for_skopeo.read_bytes() == good
        (files.folders[0] / "more.conf").write_text('unqualified-search-registries = ["b.io"]')
        assert current.for_names().search == ("b.io",)
        fault, goes_on = current.fault()
        assert fault is not None
        assert str(files.main) in fault.text
        assert goes_on
        files.main.write_text('unqualified-search-registries = ["c.io"]')
        (files.folders[0] / "more.conf").unlink()
        assert current.for_pull().registries.search == ("c.io",)
        assert current.for_pull().main is None
        assert current.fault() == (None, False)
    said = [entry["event"] for entry in logs]
    assert said == ["registries.conf is not valid", "registries.conf is valid again"]


def test_a_broken_drop_in_stops_pulls_alone(tmp_path: Path) -> None:
    """What skopeo reads itself is drop-ins; it refuses, so a pull says what is wrong; names go on (C2)."""
    files, current = three(tmp_path, 'unqualified-search-registries = ["a.io"]')
    current.for_names()
    (files.folders[0] / "broken.conf").write_text(BROKEN)
    assert current.for_names().search == ("a.io",)
    for _ in range(2):
        with pytest.raises(errors.ConfigurationError, match=r"broken\.conf"):
            current.for_pull()
    assert current.fault()[1] is False


def test_what_cannot_be_read_for_a_moment_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files: the next name is looked up well, though no file has changed; what is broken stays so."""
    files, current = three(tmp_path, 'unqualified-search-registries = ["a.io"]')
    reads: list[ConfigFiles] = []

    def read(files: ConfigFiles, cache: Path, main: bytes | None = None) -> Registries:
        if main is None:
            reads.append(files)
        if len(reads) == 1:
            raise UnreadableFile(files.main, "Too many open files")
        return read_registries(files, cache, main)

    monkeypatch.setattr("criimage_containers_storage.registries.current.read_registries", read)
    with pytest.raises(errors.ConfigurationError, match="Too many open files"):
        current.for_names()
    assert current.for_names().search == ("a.io",)
    assert current.for_names().search == ("a.io",)
    assert len(reads) == 2
    files.main.write_text(BROKEN)
    for _ in range(2):
        current.for_names()
    assert len(reads) == 3


@pytest.mark.parametrize("main", [BROKEN, None])
def test_broken_from_the_start(tmp_path: Path, main: str | None) -> None:
    """Without an earlier one there is nothing to go on with; a file that was asked for has to exist (C2)."""
    files, current = three(tmp_path, main or "")
    if main is None:
        files.main.unlink()
    for ask in (current.for_names, current.for_pull):
        with pytest.raises(errors.ConfigurationError, match=r"main\.conf"):
            ask()
    files.main.write_text("")
    assert current.for_names().search == ()


class Broken(Trusting):
    """Fails in a way that nobody has thought of, as long as it is told to."""

    def __init__(self) -> None:
        self.fails = True

    def verdict(self, files: ConfigFiles, main: Path | None) -> str:
        """Fails."""
        if self.fails:
            raise ZeroDivisionError
        return ""


def test_a_reading_that_came_to_nothing_is_none(tmp_path: Path) -> None:
    """Whatever went wrong at the first look at a file, the next one looks again: nothing says that it was read (C2)."""
    files, _ = three(tmp_path, 'unqualified-search-registries = ["a.io"]')
    judge = Broken()
    current = CurrentRegistries(lambda: files, tmp_path / "aliases.conf", tmp_path / "work", judge)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            current.for_names()
    judge.fails = False
    assert current.for_names().search == ("a.io",)


def test_a_judge_that_cannot_be_asked_has_nothing_against_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder for temporary files that is full or gone is no fault of registries.conf, which counts all the same."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    files, _ = three(tmp_path, 'unqualified-search-registries = ["a.io"]')
    current = CurrentRegistries(lambda: files, tmp_path / "aliases.conf", tmp_path / "work", Judge({}))
    for _ in range(2):
        assert current.for_pull().registries.search == ("a.io",)


def test_no_main_file_is_fine_where_nobody_asked_for_one(tmp_path: Path) -> None:
    """A machine need not have one; skopeo is given none then (C2)."""
    none = tmp_path / "none"
    current = CurrentRegistries(lambda: ConfigFiles((none,)), none, tmp_path, Trusting())
    assert current.for_pull().main is None
    assert current.fault() == (None, False)


def test_the_variable_of_the_other_tools(tmp_path: Path) -> None:
    """CONTAINERS_REGISTRIES_CONF names the main file, unless the settings do (T1, C2)."""
    environment = {"CONTAINERS_REGISTRIES_CONF": "/var.conf", "HOME": str(tmp_path)}
    older = RuleSet.OLDER
    assert str(registries_files("", environment, older, uid=0).main) == "/var.conf"
    assert str(registries_files("/own.conf", environment, older, uid=0).main) == "/own.conf"


@pytest.mark.engine
@pytest.mark.usefixtures("each_skopeo")
async def test_skopeo_follows_the_variable_through_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself skopeo does not look at it; names and plain HTTP come from that file all the same (T1)."""
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        local.write_registries(with_search(hub.address))
        monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(local.registries_conf))
        async with opened(local, registries_conf="") as under_test:
            assert [str(one) for one in await under_test.backend.resolve(Name.parse("app:1"))] == [name]
            await under_test.pull("app:1")


@pytest.mark.engine
@pytest.mark.usefixtures("each_skopeo")
async def test_pulls_go_on_with_a_broken_file() -> None:
    """Pulls work as before, check names the file, statuses never cared; mended, the new content counts (C2)."""
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        local.write_registries(with_search(hub.address))
        async with opened(local, skip_unchanged=False) as under_test:
            await under_test.pull("app:1")
            local.write_registries(BROKEN)
            (problem,) = await under_test.backend.check()
            assert str(local.registries_conf) in problem.text
            assert "what it said before" in problem.remedy
            await under_test.pull("app:1")
            assert await under_test.status(name) is not None
            local.write_registries(with_search("127.0.0.1:1"))
            assert await under_test.backend.check() == ()
            assert [str(one) for one in await under_test.backend.resolve(Name.parse("app:1"))] == ["127.0.0.1:1/app:1"]


@pytest.mark.engine
def test_a_server_says_it_and_serves() -> None:
    """SIGHUP after an invalid change: it is in the log once, the old file counts; then the new one does (C1)."""
    with registry() as hub, store() as local:
        hub.push(SMALL, "app", "1")
        local.write_registries(with_search(hub.address))
        with criimage(store_config(local)) as server:
            at_once("pull", "app:1", "--endpoint", server.endpoint)
            local.write_registries(BROKEN)
            server.reload()
            server.wait_for_log("settings reloaded")
            for _ in range(2):
                at_once("pull", "app:1", "--endpoint", server.endpoint)
            local.write_registries(with_search(hub.address))
            at_once("pull", "app:1", "--endpoint", server.endpoint)
            server.stop()
            before, _, _ = server.log_text().partition("registries.conf is valid again")
            assert before != server.log_text()
            assert before.count("registries.conf is not valid") == 1
