"""Claims: our interface is the one Kubernetes publishes, and v1alpha2 is a part of v1 (cri-protocol 1.1, 1.2, 1.4).

The published interface comes through Go's module proxy and is compiled beside ours.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from parts.missing import lacking
from wire.messages.interfaces import FILES
from wire.messages.shapes import Shape, shape, types

# Ours follows the development branch, so it may have what no release has yet.
NEWER_THAN_RELEASED = {"RuntimeFeatures.mount_options": "= 3: optional bool"}
# What v1alpha2 lacks, as the protocol's description lists it.
ONLY_IN_V1 = {
    "ImageService/StreamImages",
    "ImageFsInfoResponse.container_filesystems",
    "ImageSpec.image_ref",
    "ImageSpec.runtime_handler",
    "ImageSpec.user_specified_image",
    "LinuxSandboxSecurityContext.supplemental_groups_policy",
    "StatusResponse.features",
    "StatusResponse.runtime_handlers",
    "WindowsSandboxSecurityContext.namespace_options",
}
TYPES_ONLY_IN_V1 = {
    "RuntimeFeatures",
    "RuntimeHandler",
    "RuntimeHandlerFeatures",
    "StreamImagesRequest",
    "StreamImagesResponse",
    "SupplementalGroupsPolicy",
    "WindowsNamespaceOption",
}


def published(version: str, package: str, folder: Path) -> Shape:
    """Downloads and compiles one version of k8s.io/cri-api.

    Args:
        version: The module's version.
        package: The interface's version within it.
        folder: A folder to work in.

    Returns:
        The shape of the interface.
    """
    if shutil.which("go") is None:
        # A machine whose clients are built with a Go of a wheel has none in PATH.
        lacking("go is not installed", also_in_ci=False)
    command = ["go", "mod", "download", "-json", f"k8s.io/cri-api@{version}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    module: dict[str, Any] = json.loads(done.stdout or "{}")
    if done.returncode != 0 or "Dir" not in module:
        lacking(f"cri-api cannot be downloaded: {module.get('Error') or done.stderr}")
    source = Path(module["Dir"], "pkg", "apis", "runtime", package, "api.proto").read_text("utf-8")
    # Old versions steer a Go code generator by options that change nothing on the wire.
    plain = re.sub(r'^(import ".*/gogo\.proto"|option \(gogoproto\.\w+\)\s*=\s*\w+);$', "", source, flags=re.MULTILINE)
    (folder / "api.proto").write_text(plain, "utf-8")
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--descriptor_set_out=api.pb", "api.proto"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0 and "No module named" in done.stderr:
        lacking("the dependency group `wire` is not installed")
    assert done.returncode == 0, done.stderr
    [file] = descriptor_pb2.FileDescriptorSet.FromString((folder / "api.pb").read_bytes()).file
    assert file.package == f"runtime.{package}"
    return shape(file)


@pytest.mark.engine
@pytest.mark.timeout(300)
def test_v1_is_the_published_one(tmp_path: Path) -> None:
    """Every method, message, field and enum value of 1.36 that we speak is here and is the same; nothing else is."""
    ours = shape(FILES["runtime.v1"])
    theirs = published("v0.36.0", "v1", tmp_path)
    assert {name: ours[name] for name in ours.keys() - theirs.keys()} == NEWER_THAN_RELEASED
    assert {name: fact for name, fact in ours.items() if name not in NEWER_THAN_RELEASED} == theirs


@pytest.mark.engine
@pytest.mark.timeout(300)
def test_v1alpha2_is_the_published_one(tmp_path: Path) -> None:
    """What is derived is the interface as it was last published, with Kubernetes 1.25, in full."""
    assert shape(FILES["runtime.v1alpha2"]) == published("v0.25.0", "v1alpha2", tmp_path)


def test_nothing_is_here_that_no_method_reaches() -> None:
    """The files hold the closure of the methods and no type besides."""
    for file in FILES.values():
        if file.package.startswith("runtime."):
            assert types(file) <= shape(file).keys(), file.package


def test_v1alpha2_is_a_part_of_v1() -> None:
    """The same names with the same numbers and types, less what came later: one set of messages serves both (1.2)."""
    v1, v1alpha2 = shape(FILES["runtime.v1"]), shape(FILES["runtime.v1alpha2"])
    assert v1alpha2.items() <= v1.items()
    missing = {name for name in v1.keys() - v1alpha2.keys() if name.partition(".")[0] not in TYPES_ONLY_IN_V1}
    assert missing == ONLY_IN_V1
    assert types(FILES["runtime.v1"]) - types(FILES["runtime.v1alpha2"]) == TYPES_ONLY_IN_V1


def test_descriptors_carry_no_comments() -> None:
    """Source information is a third of the bytes and of no use to a client of reflection."""
    assert not [file.name for file in FILES.values() if file.HasField("source_code_info")]
