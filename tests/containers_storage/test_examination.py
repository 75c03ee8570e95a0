"""What `config check` finds by trying, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.command import run
from containers_storage.opened import Opened, opened
from containers_storage.small_disk import enlarge, fill, small_disk
from criimage.backend import Examination, Examined, Limited
from parts.store import Store, store

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("each_skopeo")]


@pytest.fixture
def local() -> Iterator[Store]:
    """A store of the test's own."""
    with store() as made:
        yield made


async def examined(under_test: Opened) -> Examination:
    """What the backend finds out."""
    assert isinstance(under_test.backend, Examined)
    return await under_test.backend.examine()


@contextlib.contextmanager
def full_around_a_disk() -> Iterator[Path]:
    """A file system of its own in a folder of one on which nothing can be made."""
    with small_disk(1) as around:
        root = around / "store"
        root.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(root)], check=True)
        fill(around)
        yield root


async def test_what_works_leaves_nothing_and_names_its_files(local: Store) -> None:
    """The files that were read are told with the rules that found them; the real store is not even made (C2)."""
    before = {path for path in local.folder.rglob("*") if "criimage-work" not in str(path)}
    async with opened(local) as under_test:
        found = await examined(under_test)
    assert found.problems == ()
    assert found.facts[0].endswith("its files are found by the older rules")
    assert {f"read: {local.registries_conf}", f"read: {local.policy}"} <= set(found.facts)
    after = {path for path in local.folder.rglob("*") if "criimage-work" not in str(path)}
    assert after == before
    assert str(local.folder) not in Path("/proc/self/mountinfo").read_text()  # noqa: ASYNC240


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"driver": "nosuch"}, "driver nosuch"),
        ({"options": ["overlay.nosuch=1"]}, "nosuch"),
        ({"options": ["overlay.imagestore=/no/such/store"]}, "/no/such/store"),
        ({"certs_dir": "/no/such/folder"}, "certs_dir is /no/such/folder"),
    ],
)
async def test_what_cannot_work_is_told_once(local: Store, settings: dict[str, object], told: str) -> None:
    """Settings under which every pull would fail, each with one problem and a remedy (issue 14, A3)."""
    async with opened(local, **settings) as under_test:
        found = await examined(under_test)
    (problem,) = found.problems
    assert told in problem.text
    assert problem.remedy


async def test_it_is_told_of_the_store_and_not_of_the_trial(local: Store) -> None:
    """Skopeo's cause names the operator's store, without the throwaway one's folder and long name (issue 14, A3)."""
    async with opened(local, driver="btrfs") as under_test:
        (problem,) = (await examined(under_test)).problems
    assert problem.text.startswith(f'skopeo cannot fill a store here (driver btrfs): "{local.root}/btrfs" is not on'), (
        problem.text
    )
    assert "criimage-check" not in problem.text


@pytest.mark.parametrize("key", ["root", "run_root"])
async def test_where_nothing_can_be_made_no_store_can_be(local: Store, key: str) -> None:
    """A folder below /proc or /sys looks writable to root, and no skopeo can make it (issue 14, A3)."""
    for place in ("/proc/store", "/sys/no/store"):
        async with opened(local, **{key: place}) as under_test:
            texts = [problem.text for problem in (await examined(under_test)).problems]
        assert [text for text in texts if "the kernel's own" in text] == texts[:1], texts
        assert texts[0].startswith(f"no store can be at {place}: ")
        assert len(texts) == 1


async def test_a_store_with_a_file_system_of_its_own_is_tried_there(local: Store) -> None:
    """What a driver can do and what space there is depends on that file system, not on the one around it."""
    with full_around_a_disk() as root:
        async with opened(local, root=str(root)) as under_test:
            assert (await examined(under_test)).problems == ()
        assert list(root.iterdir()) == []


LOOP = "leads to itself"
"""Content of a file that is there and cannot be read, by root neither."""


@pytest.mark.parametrize(
    ("key", "content"),
    [
        *((key, content) for key in ("policy", "auth_file", "registries_conf") for content in (None, "{", LOOP)),
        ("auth_file", "[]"),
        ("options", None),
        ("certs_dir", None),
        ("policy_dir", None),
    ],
    ids=lambda value: {None: "none", "{": "torn", "[]": "a list"}.get(value, value),
)
async def test_what_is_wrong_is_told_once(local: Store, tmp_path: Path, key: str, content: str | None) -> None:
    """Check, a try and what is worth knowing, which `config check` joins: one of them tells it (issue 14, A3)."""
    file = tmp_path / "file.json"
    if content == LOOP:
        file.symlink_to(file)
    elif content is not None:
        file.write_text(content)
    value = [f"overlay.imagestore={file}"] if key == "options" else str(file)
    driver = {"driver": "overlay"} if key == "options" else {}
    async with opened(local, **{key: value}, **driver) as under_test:
        found = await examined(under_test)
        assert isinstance(under_test.backend, Limited)
        told = [*await under_test.backend.check(), *found.problems, *await under_test.backend.limits()]
    assert len([one.text for one in told if str(file) in one.text]) == 1, told
    assert not [fact for fact in found.facts if str(file) in fact and content is None]


@pytest.mark.parametrize("place", ["certs_dir", "certs.d"])
async def test_certificates_that_no_pull_would_get_past(
    local: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A certificate without its key, a key without it, a file that cannot be read: skopeo stops at each (C7)."""
    folder = tmp_path / (".config/containers/certs.d/a.example" if place == "certs.d" else "certs")
    folder.mkdir(parents=True)
    settings = {"certs_dir": str(folder)} if place == "certs_dir" else {}
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    for name in ("ca.crt", "client.cert", "client.key", "notes.txt"):
        (folder / name).write_text("")
    async with opened(local, **settings) as under_test:
        assert (await examined(under_test)).problems == ()
        for name in ("ca.cert", "other.key"):
            (folder / name).write_text("")
        (folder / "loop.crt").symlink_to("loop.crt")
        texts = [problem.text for problem in (await examined(under_test)).problems]
    assert texts == [
        f"the client certificate {folder}/ca.cert has no ca.key beside it",
        f"the key {folder}/other.key has no other.cert beside it",
        f"cannot read {folder}/loop.crt: Too many levels of symbolic links",
    ]


async def test_a_store_that_is_not_there_yet_is_told(local: Store, tmp_path: Path) -> None:
    """A mistyped root looks like a new one; once something is in it, nothing is said."""
    told = f"there is no vfs store at {tmp_path}/mistyped yet: the first pull makes one"
    async with opened(local, driver="vfs", root=str(tmp_path / "mistyped")) as under_test:
        found = await examined(under_test)
        assert (found.problems, told in found.facts) == ((), True)
        (tmp_path / "mistyped/vfs-images").mkdir(parents=True)
        assert told not in (await examined(under_test)).facts


def test_a_command_tells_nothing_but_its_own_lines(local: Store, tmp_path: Path) -> None:
    """No line of a log stands among the problems, and each is told once where several things are wrong at once."""
    wrong = {key: tmp_path / key for key in ("auth_file", "registries_conf", "policy")}
    for file in wrong.values():
        file.write_text("{")
    settings = tmp_path / "config.toml"
    # It keeps the backend shut, and hides nothing.
    table = {"tmp_dir": "/no/such/folder", "root": local.root, "run_root": local.run_root, **wrong}
    lines = [f'{key} = "{value}"' for key, value in table.items()]
    settings.write_text("\n".join(["[backends.containers-storage]", 'driver = "vfs"', *lines]))

    ended = run("config", "check", "--config", str(settings))

    place = "line 3: backends.containers-storage.tmp_dir: "
    told = f"{settings}, {place}cannot keep downloads in /no/such/folder: No such file or directory; set tmp_dir"
    assert (ended.returncode, ended.stderr) == (2, f"Error: {told}\n")
    lines = [line for line in ended.stdout.splitlines() if not line.startswith("note: ")]
    for file in wrong.values():
        assert len([line for line in lines if str(file) in line]) == 1, ended.stdout
    assert all(line.startswith(("containers-storage: ", "  ")) for line in lines), ended.stdout


async def test_a_policy_that_skopeo_would_stumble_over(local: Store) -> None:
    """A policy of an unknown kind; the kind that rejects is no fault (C6)."""
    local.policy.write_text(json.dumps({"default": [{"type": "nosuch"}]}))
    async with opened(local) as under_test:
        (problem,) = (await examined(under_test)).problems
    assert "nosuch" in problem.text
    local.policy.write_text(json.dumps({"default": [{"type": "reject"}]}))
    async with opened(local) as under_test:
        assert (await examined(under_test)).problems == ()


@pytest.mark.parametrize("full", ["folder", "image"])
async def test_what_the_system_refuses_keeps_its_path(full: str, tmp_path: Path) -> None:
    """Where a store cannot be tried out for want of space, or of rights, the place is named with what to do (D16)."""
    with small_disk(1) as disk, store(parent=disk) as local:
        fill(disk)
        if full == "image":
            enlarge(disk, 1, files=sum(1 for _ in disk.rglob("*")) + 3)
        async with opened(local, tmp_dir=str(tmp_path)) as under_test:
            (problem,) = (await examined(under_test)).problems
        assert re.search(f"^cannot try out a store: {disk}/.*: No space left on device$", problem.text)
        assert "set tmp_dir" in problem.remedy
