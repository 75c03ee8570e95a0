"""Claims: what is checked in is what proto/ generates, and it is cheap to have."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import betterproto
import pytest

from criimage.cri.runtime import v1
from parts.missing import strict
from wire.messages.interfaces import FILES, KINDS, RESPELLED

PROJECT = Path(__file__).parents[3]
GENERATE = Path("proto", "generate.py")
has_compilers = pytest.mark.skipif(
    not strict() and not (find_spec("grpc_tools") and find_spec("jinja2")),
    reason="the dependency group `wire` is not installed",
)


def check(project: Path) -> subprocess.CompletedProcess[str]:
    """Runs the generator's check in a project."""
    command = [sys.executable, str(project / GENERATE), "--check"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A project of nothing but proto/ and the generated package."""
    shutil.copytree(PROJECT / "proto", tmp_path / "proto")
    shutil.copytree(PROJECT / "criimage" / "cri", tmp_path / "criimage" / "cri")
    return tmp_path


def sources(project: Path) -> dict[str, bytes]:
    """The generated package's files."""
    folder = project / "criimage" / "cri"
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.py")}


@has_compilers
def test_what_is_checked_in_is_current() -> None:
    """The check ends with 0 and says nothing."""
    done = check(PROJECT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@has_compilers
def test_a_change_in_proto_is_shown(copied: Path) -> None:
    """A field that proto/ has and the generated files do not fails the check, by name in both products."""
    proto = copied / "proto" / "runtime" / "v1" / "api.proto"
    proto.write_text(proto.read_text().replace("bool pinned = 8;", "bool pinned = 8;\n  bool new_one = 9;"))
    done = check(copied)
    assert done.returncode == 1
    assert "+    new_one: bool = betterproto.bool_field(9)" in done.stdout
    assert '+      name: "new_one"' in done.stdout


@has_compilers
def test_a_file_nobody_generates_is_shown(copied: Path) -> None:
    """A module left over from a removed package fails the check, and generating removes it."""
    stale = copied / "criimage" / "cri" / "stale.py"
    stale.write_text("")
    done = check(copied)
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "differs: stale.py")
    subprocess.run([sys.executable, str(copied / GENERATE)], check=True)
    assert sources(copied) == sources(PROJECT)


def test_importing_messages_imports_neither_google_nor_a_server() -> None:
    """A client that needs messages pays for no reflection and no server (python-stack 1 and 6)."""
    script = "import sys, criimage.cri.runtime.v1; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "criimage.cri.runtime.v1" in loaded
    assert loaded.isdisjoint({"criimage.cri.descriptors", "google.protobuf", "grpclib.server", "grpclib.client"})


def test_every_message_has_a_class_and_no_service_has() -> None:
    """One class a message and one an enum, three of them respelled for Python; handlers are written by hand."""
    file = FILES["runtime.v1"]
    enums = [enum.name for enum in file.enum_type] + ["SecurityProfileProfileType"]
    wanted = {RESPELLED.get(name, name) for name in KINDS} | set(enums)
    found = {
        name
        for name, value in vars(v1).items()
        if isinstance(value, type) and issubclass(value, betterproto.Message | betterproto.Enum)
    }
    assert found == wanted
    assert not [name for name in vars(v1) if name.endswith(("Stub", "Base"))]


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_class_has_the_fields_of_its_descriptor(name: str) -> None:
    """Names and numbers agree, and fields stand in the order of their numbers, in which they are encoded."""
    ours: Any = KINDS[name].ours
    fields = [(betterproto.FieldMetadata.get(field).number, field.name) for field in dataclasses.fields(ours)]
    assert fields == sorted((field.number, field.name) for field in KINDS[name].descriptor.fields)


def test_secrets_are_marked() -> None:
    """The fields of AuthConfig that are secrets are to be redacted by whoever prints one (1.2)."""
    fields = KINDS["AuthConfig"].descriptor.fields
    marked = {field.name for field in fields if field.GetOptions().debug_redact}
    assert marked == {"password", "auth", "identity_token", "registry_token"}


def test_a_deprecated_field_does_not_warn() -> None:
    """A pod that still has `seccomp_profile_path` must not make us warn whenever its config is built or copied."""
    assert v1.LinuxSandboxSecurityContext(seccomp_profile_path="unconfined").seccomp_profile_path == "unconfined"
