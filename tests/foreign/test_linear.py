"""Whatever foreign text a function takes, its cost grows as the text does (issue 8, item 1)."""

from __future__ import annotations

import re
from inspect import isfunction
from typing import TYPE_CHECKING

import pytest
from grpclib.const import Status

from criimage import disk_failures, errors, foreign_json, foreign_text, foreign_toml, masking, pins, reference
from criimage.channel import CallError
from criimage.credentials import Credentials
from criimage_containers_storage.pulling import failures as skopeo_failures
from criimage_containers_storage.pulling import manifests, rate_limits
from criimage_containers_storage.pulling.process import Outcome
from criimage_containers_storage.store import images
from criimage_cri import failures as runtime_failures
from criimage_cri import words as runtime_words
from criimage_docker.engine import words
from criimage_docker.engine.answers import Refusal
from criimage_docker.engine.json_stream import JSONStream
from criimage_docker.pulling import failures as engine_failures
from foreign.growth import ALLOWED, HEAVY, PATTERNS, growth, weight

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 4096
"""And four times that, which is what the door lets through."""
SECRETS = masking.Secrets.of(Credentials("user", "a password", "an identity token", "a/registry+token"))
REPEATED = masking.Secrets(["a." * 2000, "..." * 1000, "abcdefgh" * 500])
NAME = reference.Reference.parse("reg.example:5000/team/app:1")


def fatal(text: str) -> Outcome:
    return Outcome(1, b"", f'time="x" level=fatal msg="{text}"\n')


def plain(text: str) -> Outcome:
    return Outcome(1, b"", text)


def said(text: str) -> CallError:
    return CallError(Status.UNKNOWN, text, reached=True)


def in_pieces(text: str) -> None:
    stream = JSONStream()
    data = ('{"a":"' + text).encode("utf-8", "replace")
    for start in range(0, len(data), 64):
        list(stream.feed(data[start : start + 64]))


def kept_ends(text: str) -> str:
    kept = foreign_text.KeptEnds(100, 1000)
    for sign in text:
        kept.feed(sign.encode("utf-8", "replace"))
    return kept.text()


TABLE: dict[str, Callable[[str], object]] = {
    "foreign_text.KeptEnds": kept_ends,
    "foreign_text.halves": foreign_text.halves,
    "foreign_text.keep_start": lambda text: foreign_text.keep_start(text, 100),
    "foreign_text.keep_end": lambda text: foreign_text.keep_end(text, 100),
    "foreign_text.keep_ends": foreign_text.keep_ends,
    "foreign_text.one_line": foreign_text.one_line,
    "foreign_text.readable": lambda text: foreign_text.readable(text, 400),
    "foreign_text.repaired": foreign_text.repaired,
    "foreign_text.without_chance": foreign_text.without_chance,
    "foreign_text.without_html": foreign_text.without_html,
    "foreign_text.without_own_places": foreign_text.without_own_places,
    "foreign_text.without_paths": foreign_text.without_paths,
    "disk_failures.disk_failure": lambda text: disk_failures.disk_failure(text, "a store"),
    "foreign_json.check": lambda text: foreign_json.check([text]),
    "foreign_json.dump": lambda text: foreign_json.dump([text], indented=True),
    "foreign_json.parse": foreign_json.parse,
    "foreign_json.parse: a text without an end": lambda text: foreign_json.parse('"' + text),
    "foreign_json.parse: a list without an end": lambda text: foreign_json.parse("[" + text),
    "foreign_json.plain_or_json": foreign_json.plain_or_json,
    "foreign_json.parse_object": foreign_json.parse_object,
    "masking.mask_forms": masking.mask_forms,
    "masking.Secrets": SECRETS.mask,
    "masking.Secrets: with parts of one": REPEATED.mask,
    "masking.Secrets: in base64": lambda text: SECRETS.mask("YSBwYXNzd29y".join([text] * 3)),
    "pins.Pins": lambda text: pins.Pins([text]),
    "reference.ImageID": reference.ImageID.parse,
    "reference.Lookup": reference.Lookup.parse,
    "reference.Name": reference.Name.parse,
    "reference.Pattern": reference.Pattern.parse,
    "reference.Reference": reference.Reference.parse,
    "reference.registry_host": reference.registry_host,
    "reference.shown": reference.shown,
    "skopeo_failures.last_words": lambda text: skopeo_failures.last_words(fatal(text)),
    "skopeo_failures.last_words: no last words": lambda text: skopeo_failures.last_words(plain(text)),
    "skopeo_failures.pull_failure": lambda text: skopeo_failures.pull_failure(fatal(text), "x", secrets=SECRETS),
    "skopeo_failures.pull_failure: plain": lambda text: skopeo_failures.pull_failure(plain(text), "x"),
    "skopeo_failures.store_failure": lambda text: skopeo_failures.store_failure(fatal(text), "x"),
    "skopeo_failures.tidy": skopeo_failures.tidy,
    "rate_limits.seconds_to_wait": rate_limits.seconds_to_wait,
    "rate_limits.waits": rate_limits.waits,
    "manifests.instances": lambda text: manifests.instances(text.encode("utf-8", "replace")),
    "manifests.is_encrypted": lambda text: manifests.is_encrypted(text.encode("utf-8", "replace")),
    "manifests.layers_to_fetch": lambda text: manifests.layers_to_fetch(text.encode("utf-8", "replace"), ()),
    "images.parse_names": lambda text: images.parse_names([text]),
    "images.parse_user": images.parse_user,
    "words.refused": lambda text: words.refused(Refusal(500, text), "list its images"),
    "words.tidy": lambda text: words.tidy(text, SECRETS),
    "engine_failures.pull_failure": lambda text: engine_failures.pull_failure(text, NAME, secrets=SECRETS),
    "runtime_words.tidy": lambda text: runtime_words.tidy(text, SECRETS),
    "runtime_failures.pull_failure": lambda text: runtime_failures.pull_failure(said(text), NAME, SECRETS),
    "runtime_failures.is_in_use": lambda text: runtime_failures.is_in_use(errors.OperationFailed(text)),
    "json_stream.JSONStream": in_pieces,
}

MODULES = {
    "disk_failures": disk_failures,
    "foreign_text": foreign_text,
    "foreign_json": foreign_json,
    "foreign_toml": foreign_toml,
    "masking": masking,
    "reference": reference,
    "skopeo_failures": skopeo_failures,
    "rate_limits": rate_limits,
    "manifests": manifests,
    "words": words,
    "engine_failures": engine_failures,
    "runtime_words": runtime_words,
    "runtime_failures": runtime_failures,
}
NOT_WALKED = {
    "manifests.is_stored_as",  # compares digests
    "manifests.is_stored",  # compares digests, and reads with `instances`
    "foreign_toml.key_lines",  # of the same files, and of their first lines only
    "foreign_toml.parse_toml",  # of the operator's own files; Python's reader is quadratic in the parts of one key
}


@pytest.mark.parametrize("name", TABLE)
def test_four_times_the_text_costs_about_four_times(name: str) -> None:
    """For each class of character, and for what expressions nearly match: thread CPU time of n and 4n, best of five."""
    grown = {pattern: growth(TABLE[name], pattern, SIZE) for pattern in PATTERNS}

    assert {pattern: ratio for pattern, ratio in grown.items() if ratio > ALLOWED} == {}


@pytest.mark.parametrize("name", TABLE)
def test_no_sign_is_looked_at_again_and_again(name: str) -> None:
    """What is quadratic up to a bound grows as it should and costs seconds all the same."""
    heavy = {pattern: weight(TABLE[name], pattern, 4 * SIZE) for pattern in PATTERNS}

    assert {pattern: looks for pattern, looks in heavy.items() if looks > HEAVY} == {}


def test_no_function_is_forgotten() -> None:
    """Each public function of the modules that take foreign text is in the table, and so is one that comes later."""
    walked = {name.partition(":")[0] for name in TABLE}
    found = {
        f"{short}.{name}"
        for short, module in MODULES.items()
        for name in module.__all__
        if isfunction(vars(module)[name])
    }

    assert found - walked - NOT_WALKED == set()


def test_the_walk_finds_what_is_quadratic() -> None:
    """An expression that looks for its end again from every beginning is told from one that does not."""
    # As it was in the failure texts: a path of ours, looked for from every slash to the end of the word.
    quadratic = re.compile(r"/\S*criimage-work-[^\s\":]*")

    assert growth(lambda text: quadratic.sub("…", text), "/", SIZE) > ALLOWED
