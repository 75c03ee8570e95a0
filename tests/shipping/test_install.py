"""Claims: `criimage install` writes what ships and `uninstall` takes it back, and nothing of others."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.command import COMMAND, SECONDS
from criimage.cli import main
from criimage.shipping.units import KUBELETS

UNIT = "etc/systemd/system/criimage.service"
SETTINGS = "etc/criimage/config.toml"
RECORD = "usr/local/share/criimage/installed.json"


def run(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--root", str(root)])


def done(root: Path, *arguments: str) -> list[str]:
    """What a command that succeeds prints."""
    result = run(root, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def wanted_by(root: Path) -> list[str]:
    return [line for line in (root / UNIT).read_text().splitlines() if line.startswith(("Before=", "WantedBy="))]


def test_what_is_installed_is_taken_back(tmp_path: Path) -> None:
    """Every kind of file that ships is written, readable by everybody; afterwards not even a folder is left."""
    told = done(tmp_path, "install")
    written = files(tmp_path)
    assert {f"/{name}" for name in written} - {f"/{RECORD}"} == {line.split()[1] for line in told}
    assert {
        UNIT,
        "etc/systemd/system/criimage.socket",
        "etc/tmpfiles.d/criimage.conf",
        SETTINGS,
        "usr/local/share/man/man8/criimage.8",
        "usr/local/share/man/man8/criimage-pulls-cancel.8",
        "usr/local/share/man/man5/criimage.toml.5",
        "usr/local/share/bash-completion/completions/criimage",
        "usr/local/share/zsh/site-functions/_criimage",
        "usr/local/share/fish/vendor_completions.d/criimage.fish",
        "usr/local/share/criimage/grafana-dashboard.json",
        "usr/local/share/criimage/criimage.rules.yml",
    } <= written.keys()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()} == {0o644}
    assert tomllib.loads(written[SETTINGS].decode()) == {}

    assert {line.split()[0] for line in done(tmp_path, "uninstall")} == {"removed"}
    assert list(tmp_path.iterdir()) == []


def test_it_is_repeatable(tmp_path: Path) -> None:
    """The second time nothing changes, the record neither."""
    done(tmp_path, "install")
    before = files(tmp_path)
    assert {line.split()[0] for line in done(tmp_path, "install")} == {"unchanged"}
    assert files(tmp_path) == before


def test_a_changed_file_is_kept(tmp_path: Path) -> None:
    """Neither command touches a file that somebody changed; both say so and do the rest."""
    done(tmp_path, "install")
    (tmp_path / SETTINGS).write_text('backend = "docker"\n')
    (tmp_path / UNIT).unlink()

    told = done(tmp_path, "install")
    assert f"kept       /{SETTINGS}: its content is not as installed" in told
    assert f"written    /{UNIT}" in told
    assert f"kept       /{SETTINGS}: its content is not as installed" in done(tmp_path, "uninstall")
    assert files(tmp_path) == {SETTINGS: b'backend = "docker"\n'}


@pytest.mark.parametrize("kind", ["file", "link to nothing", "folder"])
def test_what_was_there_before_is_kept(tmp_path: Path, kind: str) -> None:
    """A file of another's, a unit that is masked and a folder in the way stay as they are, and out of the record."""
    path = tmp_path / UNIT
    path.parent.mkdir(parents=True)
    if kind == "file":
        path.write_text("[Unit]\n")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/null")

    for command in ("install", "install", "uninstall"):
        assert f"kept       /{UNIT}: its content is not as installed" in done(tmp_path, command)

    assert os.path.lexists(path)
    assert kind != "file" or path.read_text() == "[Unit]\n"
    assert [found.name for found in tmp_path.rglob("*")] == ["etc", "systemd", "system", "criimage.service"]


def test_another_version_replaces_what_was_installed(tmp_path: Path) -> None:
    """Files of the version before are replaced, and taken back where this one has them no more."""
    done(tmp_path, "install", "--before", "old.service")
    record = json.loads((tmp_path / RECORD).read_text())
    gone = tmp_path / "usr/local/share/man/man8/criimage-old.8"
    gone.write_text("old")
    record["files"]["/usr/local/share/man/man8/criimage-old.8"] = ["sha256:" + hashlib.sha256(b"old").hexdigest()]
    (tmp_path / RECORD).write_text(json.dumps(record))

    told = done(tmp_path, "install")
    assert f"replaced   /{UNIT}" in told
    assert "removed    /usr/local/share/man/man8/criimage-old.8" in told
    assert not gone.exists()
    assert "old.service" not in (tmp_path / UNIT).read_text()


def test_an_installation_that_was_cut_off_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure in the middle, what was written counts as installed: the next one replaces or takes it back."""
    done(tmp_path, "install", "--before", "old.service")
    real = Path.replace

    def full(self: Path, target: Path) -> Path:
        tried.append(target.name)
        if "criimage.socket" in tried:
            raise OSError(28, "No space left on device", str(target))
        return real(self, target)

    tried: list[str] = []
    monkeypatch.setattr(Path, "replace", full)
    (tmp_path / "etc/systemd/system/criimage.socket").unlink()
    failed = run(tmp_path, "install")
    assert failed.exit_code == 1
    assert ": No space left on device" in failed.output
    monkeypatch.undo()

    assert "old.service" not in (tmp_path / UNIT).read_text()
    assert {line.split()[0] for line in done(tmp_path, "uninstall")} == {"removed"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_a_dry_run_changes_nothing(tmp_path: Path, command: str) -> None:
    """It tells what would be, and the folder stays as it is."""
    if command == "uninstall":
        done(tmp_path, "install")
    before = files(tmp_path)
    told = done(tmp_path, command, "--dry-run")
    assert {line.split()[0] for line in told} == {"written" if command == "install" else "removed"}
    assert all(line.endswith("(dry run)") for line in told)
    assert files(tmp_path) == before


def test_without_a_record_only_this_versions_files_are_taken_back(tmp_path: Path) -> None:
    """A lost record: what is exactly as this version writes it goes, anything else stays."""
    done(tmp_path, "install")
    (tmp_path / RECORD).unlink()
    (tmp_path / SETTINGS).write_text("# mine\n")
    told = done(tmp_path, "uninstall")
    assert f"removed    /{UNIT}" in told
    assert files(tmp_path) == {SETTINGS: b"# mine\n"}


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"files": {"/etc/passwd": 1}}', "\xff"])
def test_a_record_that_is_none_is_told(tmp_path: Path, content: str) -> None:
    """Nothing is written or deleted by a record that cannot be understood."""
    (tmp_path / RECORD).parent.mkdir(parents=True)
    (tmp_path / RECORD).write_text(content, "latin-1")
    result = run(tmp_path, "uninstall")
    assert result.exit_code == 2
    assert "installed.json" in result.output


def test_a_record_cannot_lead_out_of_the_root(tmp_path: Path) -> None:
    """A path with dots in the record is not followed, whatever its digest."""
    (tmp_path / "outside").write_bytes(b"")
    root = tmp_path / "root"
    (root / RECORD).parent.mkdir(parents=True)
    empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (root / RECORD).write_text(json.dumps({"files": {"/../outside": [empty]}, "folders": ["/../nowhere"]}))
    done(root, "uninstall")
    assert (tmp_path / "outside").exists()


@pytest.mark.parametrize("kubelet", KUBELETS)
def test_the_unit_is_ordered_for_the_kubelet_that_is_there(tmp_path: Path, kubelet: str) -> None:
    """Whichever unit runs the kubelet starts after criimage and starts it (relay-and-cri 1)."""
    (tmp_path / "lib/systemd/system").mkdir(parents=True)
    (tmp_path / "lib/systemd/system" / kubelet).write_text("")
    done(tmp_path, "install")
    assert wanted_by(tmp_path) == [f"Before={kubelet}", f"WantedBy=multi-user.target {kubelet}"]


def test_without_a_kubelet_any_that_comes_later_waits(tmp_path: Path) -> None:
    """Where none is there yet, the unit is before all of them, and only the machine's start starts it."""
    done(tmp_path, "install")
    assert wanted_by(tmp_path) == [f"Before={' '.join(KUBELETS)}", "WantedBy=multi-user.target"]


def test_units_go_where_they_are_told_to(tmp_path: Path) -> None:
    """Folder and order of the unit are the caller's; a name that is none is told before anything is written."""
    done(tmp_path, "install", "--unit-dir", "/opt/units", "--before", "mine", "--prefix", "/opt/share")
    assert "Before=mine.service\n" in (tmp_path / "opt/units/criimage.service").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"opt", "etc"}
    done(tmp_path, "uninstall", "--prefix", "/opt/share")
    assert list(tmp_path.iterdir()) == []

    assert run(tmp_path, "install", "--before", "mine\nExecStart=/bin/sh").exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_told_with_its_path(tmp_path: Path) -> None:
    """A file in the way of a folder is one line with the path, and exit code 1."""
    (tmp_path / "etc").write_text("")
    result = run(tmp_path, "install")
    assert result.exit_code == 1
    assert f"{tmp_path}/etc" in result.output
    assert "Traceback" not in result.output


def test_an_output_that_cannot_be_written_is_no_file_s_fault(tmp_path: Path) -> None:
    """`criimage install --dry-run > /dev/full` ends with the line that every command has for it (issue 14, A7)."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*COMMAND, "install", "--dry-run", "--root", str(tmp_path)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    assert (ended.returncode, ended.stderr) == (1, "Error: the output cannot be written: No space left on device\n")


def test_a_full_disk_is_told_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written names no file of itself; it is told which one it was (issue 14, A4)."""

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    result = run(tmp_path, "install")
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == f"Error: {tmp_path / RECORD}: No space left on device"
