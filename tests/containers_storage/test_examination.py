"""What `config check` finds by trying, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from containers_storage.opened import Opened, opened
from containers_storage.small_disk import enlarge, fill, small_disk
from criimage.backend import Examination, Examined
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
        ({"auth_file": "/no/such/file"}, "there is no auth file /no/such/file"),
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


@pytest.mark.parametrize(
    ("key", "content"),
    [("policy", None), ("policy", "{"), ("auth_file", None)],
    ids=["no policy", "torn policy", "no auth file"],
)
async def test_check_and_a_try_do_not_tell_the_same(
    local: Store, tmp_path: Path, key: str, content: str | None
) -> None:
    """What reading the files shows is not told again in skopeo's words: `config check` joins both (issue 14, A3)."""
    file = tmp_path / "file.json"
    if content is not None:
        file.write_text(content)
    async with opened(local, **{key: str(file)}) as under_test:
        problems = {*await under_test.backend.check(), *(await examined(under_test)).problems}
    assert len({problem.text for problem in problems if str(file) in problem.text}) == 1, problems


async def test_files_that_skopeo_would_stumble_over(local: Store, tmp_path: Path) -> None:
    """A torn auth file and a policy of an unknown kind; the kind of policy that rejects is no fault (C6, A9)."""
    torn = tmp_path / "auth.json"
    torn.write_text("{")
    local.policy.write_text(json.dumps({"default": [{"type": "nosuch"}]}))
    async with opened(local, auth_file=str(torn)) as under_test:
        texts = [problem.text for problem in (await examined(under_test)).problems]
    assert len(texts) == 2
    assert str(torn) in texts[0]
    assert "nosuch" in texts[1]
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
