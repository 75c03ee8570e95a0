"""Where the tools find their files: one folder tree, the answer under both rule sets, and skopeo's own answer."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from pathlib import Path

import pytest

from criimage.errors import ConfigurationError
from criimage.files import UnreadableFile
from criimage_containers_storage import Settings, config_files
from criimage_containers_storage.config_files import (
    ConfigFiles,
    RuleSet,
    home_folder,
    policy_file,
    registries_files,
    rule_set,
    storage_files,
)
from criimage_containers_storage.registries.judge import Judge
from criimage_containers_storage.registries.overrides import Override, in_force
from criimage_containers_storage.registries.registries_conf import read_registries
from criimage_containers_storage.store.storage_conf import locate

TREE = (
    "etc/registries.conf",
    "etc/registries.conf.d/b.conf",
    "etc/registries.conf.d/c.conf",
    "etc/registries.rootful.conf.d/a.conf",
    "etc/registries.rootless.conf.d/d.conf",
    "etc/registries.rootless.conf.d/1000/e.conf",
    "share/registries.conf",
    "share/registries.conf.d/a.conf",
    "share/registries.conf.d/z.conf",
    "home/.config/containers/registries.conf.d/b.conf",
    "home/.config/containers/registries.conf.d/not.toml",
)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's places in a folder, with files in all of them."""
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "etc/registries.conf.d/folder.conf").mkdir()
    monkeypatch.setattr(config_files, "_ETC", tmp_path / "etc")
    monkeypatch.setattr(config_files, "_SHARE", tmp_path / "share")
    return tmp_path


def read_by(files: ConfigFiles, below: Path) -> list[str]:
    """The files that are read, in their order."""
    main = [files.main] if files.main.exists() else []
    return [str(file.relative_to(below)) for file in (*main, *files.drop_ins())]


USER = "home/.config/containers"


@pytest.mark.parametrize(
    ("uid", "rules", "of_the_machine", "expected"),
    [
        (1000, RuleSet.OLDER, True, "home/.local/share/containers/storage"),
        (1000, RuleSet.OLDER, False, "set/graph"),
        (1000, RuleSet.NEWER, True, "set/graph"),
        (0, RuleSet.OLDER, True, "set/graph"),
    ],
)
def test_where_the_machines_own_storage_conf_sends_whom(
    places: Path, monkeypatch: pytest.MonkeyPatch, uid: int, rules: RuleSet, of_the_machine: bool, expected: str
) -> None:
    """Under the older rules its places are root's: a user's store is at home, with its driver (V3)."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os, "getuid", lambda: uid)
    file = places / ("etc/storage.conf" if of_the_machine else f"{USER}/storage.conf")
    file.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{places}/set/graph"\nrunroot = "{places}/set/run"\n')
    found = locate(Settings(), {"HOME": str(places / "home"), "XDG_RUNTIME_DIR": str(places / "user")}, rules)

    assert found.root == places / expected
    assert found.run_root == (places / "set/run" if expected == "set/graph" else places / "user/containers")
    assert found.driver == "vfs"


@pytest.mark.parametrize(
    ("rules", "uid", "expected"),
    [
        (
            RuleSet.OLDER,
            0,
            [
                "etc/registries.conf",
                "etc/registries.conf.d/b.conf",
                "etc/registries.conf.d/c.conf",
                f"{USER}/registries.conf.d/b.conf",
            ],
        ),
        (
            RuleSet.NEWER,
            0,
            [
                "etc/registries.conf",
                "etc/registries.rootful.conf.d/a.conf",
                f"{USER}/registries.conf.d/b.conf",
                "etc/registries.conf.d/c.conf",
                "share/registries.conf.d/z.conf",
            ],
        ),
        (
            RuleSet.NEWER,
            1000,
            [
                "etc/registries.conf",
                "share/registries.conf.d/a.conf",
                f"{USER}/registries.conf.d/b.conf",
                "etc/registries.conf.d/c.conf",
                "etc/registries.rootless.conf.d/d.conf",
                "etc/registries.rootless.conf.d/1000/e.conf",
                "share/registries.conf.d/z.conf",
            ],
        ),
    ],
)
def test_one_tree_two_answers(places: Path, rules: RuleSet, uid: int, expected: list[str]) -> None:
    """Older: the system's, then the user's. Newer: one list by base name, of equal names the highest place's (C2)."""
    environment = {"HOME": str(places / "home")}
    assert read_by(registries_files("", environment, rules, uid=uid), places) == expected


def test_the_users_own_main_file(places: Path) -> None:
    """Older: with it the system's drop-ins do not count. Newer: they do, and XDG_CONFIG_HOME moves it (C2)."""
    environment = {"HOME": str(places / "home")}
    own = places / USER / "registries.conf"
    own.touch()
    older = registries_files("", environment, RuleSet.OLDER, uid=0)
    assert read_by(older, places) == [f"{USER}/registries.conf", f"{USER}/registries.conf.d/b.conf"]
    assert len(read_by(registries_files("", environment, RuleSet.NEWER, uid=0), places)) == 5
    moved = environment | {"XDG_CONFIG_HOME": str(places / "xdg")}
    assert registries_files("", moved, RuleSet.NEWER, uid=0).main == places / "etc/registries.conf"
    assert registries_files("", moved, RuleSet.OLDER, uid=0).main == own


def test_only_the_newer_rules_take_what_the_vendor_ships(places: Path) -> None:
    """Without a file in /etc and at home, /usr/share counts under the newer rules (C2, C6)."""
    (places / "etc/registries.conf").unlink()
    (places / "share/policy.json").touch()
    environment = {"HOME": str(places / "home")}
    assert registries_files("", environment, RuleSet.NEWER, uid=0).main == places / "share/registries.conf"
    assert registries_files("", environment, RuleSet.OLDER, uid=0).main == places / "etc/registries.conf"
    assert policy_file("", environment, RuleSet.NEWER) == places / "share/policy.json"
    assert policy_file("", environment, RuleSet.OLDER) == places / "etc/policy.json"
    variable = environment | {"CONTAINERS_POLICY_JSON": "/own.json"}
    assert policy_file("", variable, RuleSet.NEWER) == Path("/own.json")
    assert policy_file("", variable, RuleSet.OLDER) == places / "etc/policy.json"


def test_a_chosen_file_stands_alone_under_the_newer_rules(places: Path) -> None:
    """CONTAINERS_REGISTRIES_CONF is read without drop-ins then, and ..._OVERRIDE last; skopeo is told so (C2, T1)."""
    environment = {
        "HOME": str(places / "home"),
        "CONTAINERS_REGISTRIES_CONF": str(places / "etc/registries.conf"),
        "CONTAINERS_REGISTRIES_CONF_OVERRIDE": str(places / "share/registries.conf"),
    }
    newer = registries_files("", environment, RuleSet.NEWER, uid=0)
    assert read_by(newer, places) == ["etc/registries.conf", "share/registries.conf"]
    told = in_force(Override(), newer, None, places / "told", environment)
    assert (told.flags, dict(told.environment)) == ((), {"CONTAINERS_REGISTRIES_CONF": str(newer.main)})
    older = registries_files("", environment, RuleSet.OLDER, uid=0)
    assert len(read_by(older, places)) == 4
    assert in_force(Override(), older, None, places / "told", environment).flags[0] == "--registries-conf"


def test_what_is_told_under_the_older_rules(places: Path) -> None:
    """In a home that has everything of the user's own, and ours as the last of the drop-ins by Go's order (A10, C5)."""
    home, containers = places / "home", places / "home/.config/containers"
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text("{}")
    (home / ".config/other").mkdir()
    (containers / "auth.json").write_text("{}")
    (containers / "registries.conf.d/a-folder").mkdir()
    files = registries_files("", {"HOME": str(home)}, RuleSet.OLDER, uid=0)
    told = in_force(Override(("pass",), ("no.io/x",)), files, None, places / "told", {"HOME": str(home)})
    made = places / "told/home"
    assert (told.home, told.environment["HOME"]) == (made, str(made))
    assert (made / ".docker").readlink() == home / ".docker"
    assert (made / ".config/other").readlink() == home / ".config/other"
    assert (made / ".config/containers/auth.json").readlink() == containers / "auth.json"
    assert not (made / ".config/containers").is_symlink()
    drop_ins = made / ".config/containers/registries.conf.d"
    assert not drop_ins.is_symlink()
    assert drop_ins.stat().st_mode & 0o777 == 0o700
    names = sorted(one.name for one in drop_ins.iterdir())
    assert names == ["b.conf", "not.toml", "not.toml~criimage.conf"]
    assert (drop_ins / "b.conf").readlink() == containers / "registries.conf.d/b.conf"
    registries = read_registries(ConfigFiles((drop_ins / names[-1],)), places / "none")
    assert registries.helpers == ("containers-auth.json", "pass")
    assert [(one.prefix, one.blocked) for one in registries.registries] == [("no.io/x", True)]


@pytest.mark.parametrize("theirs", ["nothing", "a link"])
def test_a_home_without_drop_ins_has_ours_alone(places: Path, theirs: str) -> None:
    """No home at all, or drop-ins that are a link, which these tools do not follow (L13): ours is there."""
    home = places / "another"
    if theirs == "a link":
        (home / ".config/containers").mkdir(parents=True)
        (home / ".config/containers/registries.conf.d").symlink_to(places / "etc/registries.conf.d")
    files = registries_files("", {"HOME": str(home)}, RuleSet.OLDER, uid=0)
    in_force(Override(("pass",), ()), files, None, places / "told", {"HOME": str(home)})
    drop_ins = places / "told/home/.config/containers/registries.conf.d"
    assert not drop_ins.is_symlink()
    assert [one.name for one in drop_ins.iterdir()] == ["~criimage.conf"]
    assert drop_ins.stat().st_mode & 0o777 == 0o700


def test_what_is_told_under_the_newer_rules(places: Path) -> None:
    """Ours is read last, with what the user's own last file says, except where ours has to win (A10, C5)."""
    last = places / "last.conf"
    last.write_text(
        'credential-helpers = ["pass"]\nunqualified-search-registries = ["a.io"]\n'
        '[[registry]]\nlocation = "kept.io"\ninsecure = true\n[aliases]\nx = "b.io/\\u007f\\"x"\n'
    )
    environment = {"HOME": str(places / "home"), "CONTAINERS_REGISTRIES_CONF_OVERRIDE": str(last)}
    files = registries_files("", environment, RuleSet.NEWER, uid=0)
    told = in_force(Override(("pass",), ("no.io/x",)), files, None, places / "told", environment)
    made = Path(told.environment["CONTAINERS_REGISTRIES_CONF_OVERRIDE"])
    registries = read_registries(ConfigFiles((made,)), places / "none")
    assert registries.helpers == ("containers-auth.json", "pass")
    assert registries.search == ("a.io",)
    assert registries.aliases == {"x": 'b.io/\x7f"x'}
    assert {one.prefix: one.blocked for one in registries.registries} == {"no.io/x": True, "kept.io": False}


def test_storage_conf_under_both(places: Path) -> None:
    """Root's own home counts under the newer rules, and drop-ins do, whose lists may go on (L13)."""
    environment = {"HOME": str(places / "home")}
    (places / "etc/storage.conf").write_text(
        '[storage]\ngraphroot = "/etc-root"\n[storage.options]\nadditionalimagestores = ["/a"]\n'
    )
    (places / USER / "storage.conf.d").mkdir()
    (places / USER / "storage.conf.d/x.conf").write_text(
        '[storage]\nrunroot = "/run-root"\n[storage.options]\nadditionalimagestores = ["/b", {append = true}]\n'
    )
    older = locate(Settings(), environment, RuleSet.OLDER)
    assert (str(older.root), older.additional) == ("/etc-root", (Path("/a"),))
    newer = locate(Settings(), environment, RuleSet.NEWER)
    assert (str(newer.run_root), newer.additional) == ("/run-root", (Path("/a"), Path("/b")))
    (places / USER / "storage.conf").write_text('[storage]\ngraphroot = "/home-root"\n')
    assert str(locate(Settings(), environment, RuleSet.OLDER).root) == "/etc-root"
    assert str(locate(Settings(), environment, RuleSet.NEWER).root) == "/home-root"
    assert storage_files(environment, RuleSet.OLDER, uid=1000).main == places / USER / "storage.conf"


def test_a_folder_that_cannot_be_looked_at_is_no_empty_one(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tools refuse to work then; a missing one is fine (C2)."""
    files = registries_files("", {"HOME": str(places / "home")}, RuleSet.OLDER, uid=0)
    scan = os.scandir

    def refused(path: Path) -> object:
        if "etc" in str(path):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UnreadableFile, match=r"registries\.conf\.d"):
        files.drop_ins()
    with pytest.raises(ConfigurationError):
        read_registries(files, places / "none")


@pytest.mark.parametrize(
    ("said", "rules"),
    [
        ("skopeo version 1.9.3", RuleSet.OLDER),
        ("skopeo version 1.18.0", RuleSet.OLDER),
        ("skopeo version 1.22.2", RuleSet.OLDER),
        ("skopeo version 1.23.0-dev commit: 0123", RuleSet.NEWER),
        ("skopeo version 2.0.0", RuleSet.NEWER),
        ("something else", RuleSet.OLDER),
    ],
)
def test_the_version_chooses(tmp_path: Path, said: str, rules: RuleSet) -> None:
    """1.23 and later follow the newer rules; where none can be asked the older ones are taken (T1)."""
    program = tmp_path / "skopeo"
    program.write_text(f"#!/bin/sh\necho {said}\n")
    program.chmod(0o755)
    assert rule_set({}, str(program))[0] is rules
    assert rule_set({}, str(tmp_path / "none")) == (RuleSet.OLDER, "")


def test_without_a_home_the_machine_tells() -> None:
    """HOME is not set for a service; the tools then ask the machine where the user's home is (X1)."""
    assert home_folder({"HOME": "/h"}) == Path("/h")
    assert home_folder({}) == Path(pwd.getpwuid(os.getuid()).pw_dir)


@pytest.mark.engine
@pytest.mark.usefixtures("each_skopeo")
@pytest.mark.parametrize("own_main", [False, True])
def test_skopeo_reads_the_same_files(tmp_path: Path, own_main: bool) -> None:
    """The list that skopeo tells in its debug lines is ours, in order, with a main file at home or without (C2)."""
    user = tmp_path / ".config/containers"
    (user / "registries.conf.d/folder.conf").mkdir(parents=True)
    for name in ("b", "a", "A", "~"):
        (user / f"registries.conf.d/{name}.conf").touch()
    (user / "registries.conf.d/linked.conf").symlink_to(user / "registries.conf.d/a.conf")
    if own_main:
        (user / "registries.conf").touch()
    environment = {**os.environ, "HOME": str(tmp_path)}
    rules, _ = rule_set(environment)
    files = registries_files("", environment, rules, uid=0)
    (tmp_path / "auth.json").write_text("{}")
    command = ["skopeo", "--debug", "login", "--authfile", str(tmp_path / "auth.json"), "--get-login", "x.invalid"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    said = re.findall(r'Loading registries configuration \\"([^"]+)\\"', ended.stderr)
    ours = [str(file) for file in (files.main, *files.drop_ins())]
    assert [name for name in said if Path(name).exists()] == [name for name in ours if Path(name).exists()]
    assert Judge(environment).verdict(files, None) == ""


@pytest.mark.parametrize(("uid", "place"), [(0, "/var/cache"), (1, "/h/.cache"), (1000, "/h/.cache")])
def test_where_chosen_aliases_are_remembered(uid: int, place: str) -> None:
    """Root's are the machine's own, anybody else's are in his home (N10, X1)."""
    found = config_files.alias_cache({"HOME": "/h"}, uid=uid)
    assert str(found) == f"{place}/containers/short-name-aliases.conf"
