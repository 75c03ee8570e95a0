"""What a pod's namespace changes: its own policy, its own auth file."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import hashlib
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from containers_storage.opened import opened
from criimage import errors
from criimage.credentials import Credentials
from criimage.reference import Reference
from criimage.testing.oci import image, layer
from criimage_containers_storage import Settings
from criimage_containers_storage.config_files import ConfigFiles
from criimage_containers_storage.registries.credentials import ResolvedCredentials
from criimage_containers_storage.registries.current import Configuration
from criimage_containers_storage.registries.namespaced import take
from criimage_containers_storage.registries.registries_conf import DEFAULT_HELPER, Registries, Registry
from criimage_containers_storage.registries.rules import RuleFinder
from parts.registry import registry
from parts.store import store

if TYPE_CHECKING:
    from pathlib import Path

REFERENCE = Reference.parse("a.io/app:1")
SMALL = image(layer({"a": b"a"}))
SECRET = "correct.horse"  # noqa: S105 - of a registry that lives as long as the test


@pytest.mark.engine
@pytest.mark.usefixtures("each_skopeo", "each_way")
async def test_a_namespaces_own_policy(tmp_path: Path) -> None:
    """`policy_dir` holds policies by namespace; they apply to images that are here already as well (C1, P9)."""
    (tmp_path / "strict.json").write_text('{"default": [{"type": "reject"}]}')
    with registry() as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        async with opened(local, policy_dir=str(tmp_path)) as under_test:
            await under_test.pull(name, namespace="other")
            await under_test.pull(name)
            with pytest.raises(errors.SignatureRejected, match="rejected by policy"):
                await under_test.pull(name, namespace="strict")
            with pytest.raises(errors.InvalidRequest, match="namespace"):
                await under_test.pull(name, namespace="../strict")


def test_whose_policy_counts(tmp_path: Path) -> None:
    """A namespace's own where it has one, else everybody's; one that can be none is refused before a file is (C1)."""
    (tmp_path / "strict.json").write_text('{"default": [{"type": "reject"}]}')
    (tmp_path / "policy").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    for policy_dir, policies in ((str(tmp_path), ["policy", "policy", "strict.json"]), ("", ["policy"] * 3)):
        settings = Settings(policy=str(tmp_path / "policy"), policy_dir=policy_dir, certs_dir="/certs")
        finder = RuleFinder(settings, {})
        found = [finder.find(REFERENCE, namespace) for namespace in ("", "other", "strict")]
        assert [rules.policy.name for rules in found] == policies
        assert [rules.unconditional for rules in found] == [name == "policy" for name in policies]
        assert {rules.certs_dir for rules in found} == {"/certs"}
        for namespace in ("../strict", "Strict", "a" * 64, "-a"):
            with pytest.raises(errors.InvalidRequest, match="invalid namespace"):
                finder.find(REFERENCE, namespace)


@pytest.mark.parametrize(
    ("auth", "helpers", "blocked", "overridden"),
    [
        (b"", ("pass",), False, False),
        (b"{}", (), False, False),
        (b"{}", (DEFAULT_HELPER,), False, False),
        (b"{}", ("pass",), False, True),
        (b"", (), True, True),
    ],
)
def test_when_registries_conf_is_overridden(
    tmp_path: Path, auth: bytes, helpers: tuple[str, ...], blocked: bool, overridden: bool
) -> None:
    """Only where helpers would be asked in spite of a request's own credentials, or a blocked source (A10)."""
    own = Registry("a.io/app", "b.io/app", blocked=blocked)
    configuration = Configuration(Registries(registries=(own,), helpers=helpers), ConfigFiles((tmp_path / "main",)))
    told = RuleFinder(Settings(), {"HOME": str(tmp_path)}).tell(
        configuration, REFERENCE, ResolvedCredentials(auth), tmp_path / "told"
    )
    assert ("HOME" in told.environment) is overridden
    if overridden:
        (made,) = (tmp_path / "told").rglob("*criimage.conf")
        text = made.read_text()
        assert ("credential-helpers" in text, "b.io/app" in text) == (bool(auth), blocked)


def put_down(folder: Path, namespace: str, repository: str, content: str) -> Path:
    """Does what a credential provider does."""
    file = folder / f"{namespace}-{hashlib.sha256(repository.encode()).hexdigest()}.json"
    file.write_text(content)
    return file


@pytest.mark.engine
@pytest.mark.usefixtures("each_skopeo", "each_way")
async def test_a_namespaces_own_auth_file_serves_one_pull(tmp_path: Path) -> None:
    """Used once, for its namespace and repository, then gone; the request's credentials still win (A11)."""
    entry = {"auth": base64.b64encode(f"bob:{SECRET}".encode()).decode()}
    with registry(username="bob", password=SECRET) as hub, store() as local:
        name = hub.push(SMALL, "app", "1")
        content = json.dumps({"auths": {hub.address: entry}})
        async with opened(local, namespaced_auth_dir=str(tmp_path)) as under_test:
            file = put_down(tmp_path, "team", f"{hub.address}/app", content)
            with pytest.raises(errors.AccessDenied):
                await under_test.pull(name, namespace="other")
            assert await asyncio.to_thread(file.exists)
            await under_test.pull(name, namespace="team")
            assert not await asyncio.to_thread(file.exists)
            with pytest.raises(errors.AccessDenied):
                await under_test.pull(name, namespace="team")
            file = put_down(tmp_path, "team", f"{hub.address}/app", content)
            for own in (Credentials("bob", "wrong"), Credentials(registry_token="t")):  # noqa: S106
                with pytest.raises(errors.AccessDenied):
                    await under_test.pull(name, own, namespace="team")
            assert await asyncio.to_thread(file.exists), "it was not needed, so it is not used up"
            put_down(tmp_path, "team", f"{hub.address}/app", "{")
            with pytest.raises(errors.PullError, match="namespace team is not valid"):
                await under_test.pull(name, namespace="team")
        assert [entry.name for entry in tmp_path.rglob("*")] == ["in-use"]  # noqa: ASYNC240


def test_nothing_stays_in_use_after_a_kill(tmp_path: Path) -> None:
    """What a killed server had taken is deleted by the next pull; what another one holds right now is not (A11)."""
    (tmp_path / "in-use").mkdir()
    left, held, theirs = (tmp_path / "in-use" / name for name in ("a.criimage", "b.criimage", "c.json"))
    for file in (left, held, theirs):
        file.write_text("{}")
    with held.open() as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert take(str(tmp_path), "team", Reference.parse("a.io/x:1")) is None
        assert sorted(file.name for file in (tmp_path / "in-use").iterdir()) == ["b.criimage", "c.json"]


def test_a_kill_between_taking_and_reading(tmp_path: Path) -> None:
    """A process that dies with the file in its hands leaves nothing that the next pull does not sweep (A11)."""
    put_down(tmp_path, "team", "a.io/x", json.dumps({"auths": {}}))
    killed = (
        "import os, sys, signal, criimage_containers_storage.registries.namespaced as it;"
        "from criimage.reference import Reference;"
        "it.read = lambda path: os.kill(os.getpid(), signal.SIGKILL);"
        "it.take(sys.argv[1], 'team', Reference.parse('a.io/x:1'))"
    )
    ended = subprocess.run([sys.executable, "-c", killed, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert list((tmp_path / "in-use").iterdir()), "the kill came in between"
    assert (tmp_path / "in-use").stat().st_mode & 0o777 == 0o700
    assert take(str(tmp_path), "team", Reference.parse("a.io/x:1")) is None
    assert not list((tmp_path / "in-use").iterdir())
