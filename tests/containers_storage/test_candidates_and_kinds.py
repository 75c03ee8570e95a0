"""Candidates in order, what a pull answers, and images of other kinds than today's."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
import structlog

from cli.command import at_once
from containers_storage.nobody import nobody
from containers_storage.opened import opened, texts
from containers_storage.written_store import WrittenStore
from criimage import errors
from criimage.backend import PullContext
from criimage.pulls.sharing import Pulls
from criimage.reference import Lookup, Name, Reference
from criimage.testing.oci import image, layer
from criimage.work import Work
from criimage_containers_storage.pulling.manifests import is_encrypted, is_stored
from criimage_containers_storage.store.reader import Store
from criimage_containers_storage.store.records import big_data_file
from parts.criimage_process import criimage, store_config
from parts.registry import registry
from parts.store import insecure_registries, store

if TYPE_CHECKING:
    from pathlib import Path

SMALL = image(layer({"a": b"a"}))


@pytest.mark.engine
@pytest.mark.usefixtures("each_skopeo")
async def test_the_first_registry_that_has_it_serves() -> None:
    """Candidates in order, each failure in the log at debug; none has it: the last error first (P2, P3)."""
    with registry() as hub, store() as local, nobody() as closed:
        name = hub.push(SMALL, "app", "1")
        search = f'unqualified-search-registries = ["{closed}", "{hub.address}"]\n'
        local.write_registries(search + insecure_registries("127.0.0.1"))
        async with opened(local) as under_test, Work() as work:
            pulls = Pulls(under_test.backend, work)
            with structlog.testing.capture_logs() as logs:
                pulled = await pulls.pull(Name.parse("app:1"), None, PullContext())
            assert texts(pulled.image.tags) == [name]
            failed = [entry for entry in logs if f"{closed}/app:1" in str(entry) and entry["log_level"] == "debug"]
            assert failed
            with pytest.raises(errors.RemoteImageMissing) as caught:
                await pulls.pull(Name.parse("app:2"), None, PullContext())
            assert caught.value.text == (
                f"manifest unknown: {hub.address}/app:2; earlier: {closed}/app:2: connection refused: {closed}/app:2"
            )


@pytest.mark.engine
def test_a_pull_answers_the_same_pulled_or_skipped() -> None:
    """The ID, for tag, digest and short ways to write them, the first time and later (P11, S1)."""
    with registry() as hub, store() as local, criimage(store_config(local)) as server:
        name = hub.push(SMALL, "app", "latest")
        repository = name.removesuffix(":latest")
        spellings = [name, name, repository, f"{repository}@{SMALL.digest}"]
        answers = {at_once("pull", text, "--endpoint", server.endpoint).split()[-1] for text in spellings}
        assert len(answers) == 1
        assert SMALL.id.removeprefix("sha256:")[:12] in answers.pop()


@pytest.mark.parametrize("text", ["", "@", "example.com/", "a" * 64])
def test_no_name_is_the_callers_fault(text: str) -> None:
    """Nothing is asked and nothing touched for what cannot be a name (P1, N3, N5)."""
    with pytest.raises(errors.InvalidRequest):
        Name.parse(text)


async def test_a_digest_counts_in_its_own_repository_only(tmp_path: Path) -> None:
    """A digest finds the image under each repository that names it, and under no other (S17)."""
    written = WrittenStore(tmp_path)
    identity = written.add("a.io/x:1", "b.io/y:1", index=1)
    written.write()
    snapshot = await Store(written.layout).snapshot()
    digests = snapshot.by_id[identity].record.manifest_digests
    assert len(digests) == 2
    for digest in digests:
        for repository in ("a.io/x", "b.io/y"):
            assert snapshot.by_name[Reference.parse(f"{repository}@{digest}")].image.id.hex == identity
        assert Reference.parse(f"c.io/x@{digest}") not in snapshot.by_name


async def test_schema_1(tmp_path: Path) -> None:
    """Its config is in the manifest's history, and it is never taken for unchanged (P6, P10, S14, V5)."""
    written = WrittenStore(tmp_path)
    config = {"config": {"User": "www", "Labels": {"k": "v"}}}
    manifest = {"schemaVersion": 1, "history": [{"v1Compatibility": json.dumps(config)}, {"v1Compatibility": "{}"}]}
    identity = written.add("a.io/x:1")
    data = json.dumps(manifest).encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    for key in ("manifest", f"manifest-{digest}"):
        (written.images_folder / identity / big_data_file(key)).write_bytes(data)
        written.records[0]["big-data-digests"][key] = digest
    written.write()
    stored = (await Store(written.layout).snapshot()).by_id[identity]
    assert stored.facts.config_digest == ""
    assert stored.facts.user is not None
    assert stored.facts.user.name == "www"
    assert not is_stored(data, stored)


async def test_unchanged_means_these_very_bytes(tmp_path: Path) -> None:
    """The stored manifest, or the index that lists it and no other for this machine (P7, P9, P10)."""
    written = WrittenStore(tmp_path)
    identity = written.add("a.io/x:1")
    written.write()
    stored = (await Store(written.layout).snapshot()).by_id[identity]
    data = (stored.folder / "manifest").read_bytes()
    assert stored.facts.config_digest == f"sha256:{identity}"
    assert is_stored(data, stored)
    assert not is_stored(data + b"\n", stored)
    listing = json.dumps({"manifests": [{"digest": stored.record.manifest_digest}]}).encode()
    assert not is_stored(listing, stored), "an index that was never pulled would be missing among the digests"


@pytest.mark.parametrize("kind", ["tar+encrypted", "tar+gzip+encrypted", "tar+gzip", "tar"])
def test_encrypted_layers_are_known_by_their_type(kind: str) -> None:
    """One is enough; what is no manifest is not encrypted (P16)."""
    manifest = {"layers": [{"mediaType": "a/b.tar"}, {"mediaType": f"application/vnd.oci.image.layer.v1.{kind}"}]}
    assert is_encrypted(json.dumps(manifest).encode()) is kind.endswith("encrypted")
    assert not is_encrypted(b"")
    assert not is_encrypted(b'{"layers": [1]}')


async def test_an_id_prefix_of_nothing_is_nothing(tmp_path: Path) -> None:
    """Two characters, upper case and an ambiguous beginning find no image (N6)."""
    written = WrittenStore(tmp_path)
    identities = [written.add(f"a.io/x:{number}") for number in range(20)]
    written.write()
    snapshot = await Store(written.layout).snapshot()
    assert snapshot.with_prefix(identities[0][:20]) is snapshot.by_id[identities[0]]
    shared = {one[0] for one in identities if sum(other[0] == one[0] for other in identities) > 1}
    assert shared
    assert all(snapshot.with_prefix(first) is None for first in shared)
    assert Lookup.parse(identities[0][:2]).id_prefix is None
    assert Lookup.parse("ABCDEF").id_prefix is None
