"""Claim: what engines and runtimes say of their disks has one text for each situation, without their folders and words.

The words are those of Docker 20.10.24 and 26.1, containerd 1.6 and 1.7, seen with disks that were full, read-only or
not there (attack/cases/disks.py).
"""

from __future__ import annotations

import pytest

from criimage.disk_failures import disk_failure
from criimage.errors import OperationFailed, StorageFull
from criimage.foreign_text import without_paths

FULL, READ_ONLY, LACKS = (
    "no space left on device",
    "a store cannot be written: Read-only file system",
    "a store lacks a folder or file of its own",
)
SAID = {
    "write /var/lib/docker/tmp/GetImageBlob3628116380: no space left on device": FULL,
    "failed to register layer: Error processing tar file(exit status 1): write /f0: no space left on device": FULL,
    "failed to extract layer sha256:2d: mount callback failed on /x: write /x/f0: no space left on device": FULL,
    "failed to write digest data: open /var/lib/docker/image/overlay2/.tmp-5: read-only file system": READ_ONLY,
    "failed to create temp dir: mkdir /root/snapshots/new-5: read-only file system": READ_ONLY,
    "failed to register layer: symlink ../42/diff /data/overlay2/l/4E: no such file or directory": LACKS,
    'failed to pull and unpack image "a/b:1": mkdir /root/content/ingest/95: no such file or directory': LACKS,
    "blob sha256:76 expected at /root/blobs/sha256/76: blob not found: not found": LACKS,
    'failed commit on ref "x": rename /root/ingest/95/data /root/blobs/76: invalid cross-device link': LACKS,
    "open /var/lib/docker/tmp/x: permission denied": "a store cannot be written: Permission denied",
    "sync /var/lib/docker/tmp/x: input/output error": "a store cannot be used: Input/output error",
}
OTHER_WORDS = (
    "manifest unknown: no such file or directory",
    "denied: read-only file system",
    "failed to register layer: ApplyLayer exit status 1 stdout:  stderr: open /etc/shadow: no such file or directory",
    'Get "https://registry.example/v2/": dial tcp: lookup registry.example: no such host',
    "unauthorized: permission denied",
)


@pytest.mark.parametrize("said", SAID)
def test_each_situation_has_its_text(said: str) -> None:
    """Whatever the folders and temporary names in it are (issue 8, item 8)."""
    error = disk_failure(said, "a store")
    assert error is not None
    assert error.text == SAID[said]
    assert isinstance(error, StorageFull if SAID[said] == FULL else OperationFailed)


@pytest.mark.parametrize("said", OTHER_WORDS)
def test_other_words_are_not_taken_for_them(said: str) -> None:
    """What a registry says, and a fault of an image that is being unpacked, is no disk's."""
    assert disk_failure(said, "a store") is None


def test_paths_are_taken_out_and_nothing_else() -> None:
    """URLs, names of images and media types stay; so does a slash by itself."""
    for text in (
        'Get "https://registry.example/v2/a/b": EOF',
        "registry.example:5000/team/app:1 is not there",
        "unsupported media type application/vnd.oci.image.manifest.v1+json",
        "write /f0: bad, / and // too",
    ):
        assert without_paths(text) == text
    assert without_paths('open /a/b/c: no; "/d/e" (/f/g) x=/h/i') == 'open …: no; "…" (… x=…'
