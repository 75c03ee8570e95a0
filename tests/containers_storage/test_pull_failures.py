"""The page docs/reference/pull-failures.md is what really happens, with each version of skopeo.

With CRIIMAGE_WRITE_DOCS=1 in the environment the page is written anew.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from containers_storage.opened import opened
from containers_storage.pull_causes import Cause, Scene, scene
from containers_storage.small_disk import small_disk
from criimage import errors
from criimage.backend import PullContext
from criimage.credentials import Credentials
from criimage.masking import NO_SECRETS, Secrets
from criimage.pulls.policy import PullPolicy, RegistryPolicy
from criimage.pulls.sharing import Pulls
from criimage.reference import Name
from criimage.server.calls.grpc_status import status_of
from criimage.testing.oci import machine_architecture
from criimage.work import Work
from criimage_containers_storage.pulling import pull
from criimage_containers_storage.pulling.failures import last_words, pull_failure, tidy
from parts.missing import lacking, need
from parts.skopeos import Version, install, version_text
from parts.store import Store, insecure_registries, store

if TYPE_CHECKING:
    from criimage_containers_storage.pulling.process import Outcome

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

PAGE = Path(__file__).parent.parent.parent / "docs/reference/pull-failures.md"
VERSIONS = ("1.9.3", "1.18.0")
STILL = 4.0
AT_ONCE = 6

HEAD = """\
# Why a pull failed

Every cause below was made to happen, by a registry that misbehaves on demand, and this is what a client of the
`containers-storage` backend got. A test writes this page and compares it with what happens with skopeo {versions}.

The second column is the gRPC code. The kinds behind the messages are in [Errors](errors.md). What hangs is cut off by
`pulls.progress_timeout`, here {still:g} seconds.

"""
WORDS = """\

## What skopeo says

For a search by its words in logs and forums. criimage passes them on only where it has no text of its own. Where there
is one line for a cause, both versions say the same.

"""


@dataclass(frozen=True, slots=True)
class Seen:
    """How one pull ended.

    Attributes:
        code: of gRPC.
        message: that a client gets.
        words: skopeo's own, or empty if it had none.
    """

    code: str
    message: str
    words: str


async def test_the_table_of_causes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cause has its code and its text, and no image is left (E1, E2, E3, E5, P4, P15, P16, C5, T15, V1, V2)."""
    need("openssl")
    path = os.environ["PATH"]
    results: dict[str, dict[str, Seen]] = {}
    for version in Version:
        (tmp_path / version.value).mkdir()
        folder = await asyncio.to_thread(install, version, tmp_path / version.value)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{path}" if folder else path)
        results[await asyncio.to_thread(version_text)] = await outcomes(tmp_path / version.value, monkeypatch)
    for seen in results.values():
        for cause, one in seen.items():
            assert one.code == "UNKNOWN", (cause, one)
            assert "html" not in one.message.lower()
            assert "secret" not in one.message
    if tuple(results) != VERSIONS:
        lacking(f"the page is about skopeo {VERSIONS}, here are {tuple(results)}", also_in_ci=False)
    made = "".join(
        [HEAD.format(versions=" and ".join(VERSIONS), still=STILL), *messages(results), WORDS, *words(results)]
    )
    if os.environ.get("CRIIMAGE_WRITE_DOCS"):
        PAGE.write_text(made)
    assert made == PAGE.read_text()


async def outcomes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Seen]:
    """Makes every cause happen with the skopeo that PATH leads to."""
    said: dict[str, str] = {}

    def overheard(outcome: Outcome, name: str, *, secrets: Secrets = NO_SECRETS) -> errors.CriimageError:
        said[name] = last_words(outcome)
        return pull_failure(outcome, name, secrets=secrets)

    monkeypatch.setattr(pull, "pull_failure", overheard)
    with scene(folder) as made, store() as local:
        configure(local, made)
        limits = {Name.parse(one.name).domain or "": RegistryPolicy(STILL) for one in made.causes if one.hangs}
        async with opened(local) as under_test, Work() as work:
            pulls = Pulls(under_test.backend, work, PullPolicy(RegistryPolicy(60), limits))
            places = asyncio.Semaphore(AT_ONCE)

            async def end(cause: Cause) -> Seen:
                async with places:
                    error = await hung(pulls, cause) if cause.hangs else await failure(pulls, cause)
                status, message = status_of(error)
                plain = [anonymous(text, local) for text in (message, tidy(said.get(cause.name, "")))]
                return Seen(status.name, *plain)

            seen = await asyncio.gather(*map(end, made.causes))
            assert await under_test.backend.images() == ()
        for cause, keys in made.full_disks:
            with small_disk(2) as disk:
                async with opened(local, **dict.fromkeys(keys, str(disk))) as under_test, Work() as work:
                    error = await failure(Pulls(under_test.backend, work), cause)
            status, message = status_of(error)
            made.causes.append(cause)
            seen.append(Seen(status.name, *(anonymous(text, local) for text in (message, tidy(said[cause.name])))))
        for cause, settings, environment in made.machines:
            with monkeypatch.context() as machine:
                for name, value in environment.items():
                    machine.setenv(name, value)
                async with opened(local, **settings) as under_test, Work() as work:
                    error = await failure(Pulls(under_test.backend, work), cause)
            status, message = status_of(error)
            made.causes.append(cause)
            words = [tidy(said.pop(cause.name, "")).replace(str(folder), "…"), message.replace(str(folder), "…")]
            seen.append(Seen(status.name, *(anonymous(text, local) for text in reversed(words))))
        assert [path.name for path in local.tmp.iterdir()] == []
    return {cause.text: one for cause, one in zip(made.causes, seen, strict=True)}


async def hung(pulls: Pulls, cause: Cause) -> errors.CriimageError:
    """Pulls until it was cut off at what hangs: a busy machine may keep skopeo from getting as far in time."""
    script = cause.hangs
    assert script is not None
    for _ in range(5):
        before = script.reached
        error = await failure(pulls, cause)
        if script.reached > before:
            return error
    raise AssertionError(f"it never came as far: {cause.text}")


async def failure(pulls: Pulls, cause: Cause) -> errors.CriimageError:
    """Pulls, and returns the error."""
    credentials = Credentials(cause.user, "wrong" if cause.user == "eve" else "secret") if cause.user else None
    with pytest.raises(errors.CriimageError) as caught:
        await pulls.pull(Name.parse(cause.name), credentials, PullContext())
    return caught.value


def configure(local: Store, made: Scene) -> None:
    """Writes the machine's files that some causes need."""
    local.write_registries(
        insecure_registries("127.0.0.1")
        + '[[registry]]\nlocation = "blocked.example.org"\nblocked = true\n'
        + made.registries
    )
    key = local.folder / "key.gpg"
    key.write_bytes(b"")
    signed = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(key)}
    scopes = {made.rejected: [{"type": "reject"}], made.unsigned: [signed]}
    policy = {"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": scopes}}
    local.policy.write_text(json.dumps(policy))


def anonymous(text: str, local: Store) -> str:
    """A text without what differs from run to run."""
    text = text.replace(str(local.registries_conf), "/etc/containers/registries.conf").replace(str(local.folder), "…")
    text = re.sub(r"(127\.0\.0\.1|localhost):\d{4,5}", "registry.example.com", text)
    text = re.sub(r"sha256:[0-9a-f]{64}", "sha256:…", text)
    text = re.sub(r"current time \S+ is after \S+", "current time … is after …", text)
    text = text.replace(f"architecture {machine_architecture()}", "architecture amd64")
    text = text.replace(f'architecture "{machine_architecture()}"', 'architecture "amd64"')
    text = re.sub(r"on \S+:53", "on 192.0.2.1:53", text)
    return text.replace("|", r"\|")


def messages(results: dict[str, dict[str, Seen]]) -> list[str]:
    """The table of what clients get; a version that differs has a line of its own."""
    lines = ["| cause | code | message |\n| --- | --- | --- |\n"]
    first, second = (results[version] for version in VERSIONS)
    for cause, one in first.items():
        other = second[cause]
        if (one.code, one.message) == (other.code, other.message):
            lines.append(f"| {cause} | `{one.code}` | {one.message} |\n")
        else:
            lines += [
                f"| {cause}, skopeo {version} | `{seen.code}` | {seen.message} |\n"
                for version, seen in zip(VERSIONS, (one, other), strict=True)
            ]
    return lines


def words(results: dict[str, dict[str, Seen]]) -> list[str]:
    """The list of what skopeo says."""
    lines = ["| cause | version | its words |\n| --- | --- | --- |\n"]
    first, second = (results[version] for version in VERSIONS)
    for cause, one in first.items():
        other = second[cause]
        if not one.words and not other.words:
            continue
        if one.words == other.words:
            lines.append(f"| {cause} | | {one.words} |\n")
        else:
            lines += [f"| {cause} | {VERSIONS[0]} | {one.words} |\n", f"| | {VERSIONS[1]} | {other.words} |\n"]
    return lines
