"""Pins: which images garbage collection leaves alone (cri-o S12)."""

from __future__ import annotations

import pytest

from criimage.backend import Image
from criimage.pins import Pins, never_matching
from criimage.reference import ImageID, Reference
from foreign.growth import TIMES, seconds

DIGEST = f"sha256:{'ab' * 32}"


def image(*names: str) -> Image:
    """An image with these tags and digests."""
    references = [Reference.parse(name) for name in names]
    return Image(
        ImageID("0" * 64),
        tags=tuple(reference for reference in references if reference.tag),
        digests=tuple(reference for reference in references if reference.digest),
    )


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9", True),
        ("Registry.K8S.io/Pause:3.9", "registry.k8s.io/pause:3.9", True),
        ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.10", False),
        ("pause:3.9", "registry.k8s.io/pause:3.9", False),
        ("registry.k8s.io/pause", "registry.k8s.io/pause:3.9", False),
        (f"a.b/x@{DIGEST}", f"a.b/x@{DIGEST}", True),
        ("*pause*", "registry.k8s.io/pause:3.9", True),
        ("*PAUSE*", "registry.k8s.io/pause:3.9", True),
        ("*paused*", "registry.k8s.io/pause:3.9", False),
        ("registry.k8s.io/*", "registry.k8s.io/pause:3.9", True),
        ("REGISTRY.k8s.io/*", "registry.k8s.io/pause:3.9", True),
        ("pause*", "registry.k8s.io/pause:3.9", True),
        ("k8s.io/*", "registry.k8s.io/pause:3.9", True),
        ("other/*", "registry.k8s.io/pause:3.9", False),
        ("*pause:3.9", "registry.k8s.io/pause:3.9", False),
        ("*", "registry.k8s.io/pause:3.9", True),
        ("**", "registry.k8s.io/pause:3.9", True),
        ("", "registry.k8s.io/pause:3.9", False),
        ("registryXk8s.io/*", "registry.k8s.io/pause:3.9", False),
        ("registry.k8s.io/pause:3.9\n", "registry.k8s.io/pause:3.9", False),
        ("a.b/c:1+", "a.b/c:1", False),
        ("(", "a.b/c:1", False),
        ("[*", "a.b/c:1", False),
    ],
)
def test_a_pattern_matches_as_in_cri_o(pattern: str, name: str, expected: bool) -> None:
    """S12: `*kw*` anywhere, `abc*` anywhere with anything behind, else the whole name; case never counts."""
    assert Pins([pattern]).match(image(name)) is expected
    # Among many others, which are looked for in another way.
    assert Pins([*(f"*no-such-word-{number}*" for number in range(100)), pattern]).match(image(name)) is expected
    assert not (expected and list(never_matching([pattern])))


@pytest.mark.parametrize("form", ["registry.example/team/app-{}:1", "app-{}*", "*app-{}*"])
def test_many_patterns_cost_no_more_than_one_for_an_image(form: str) -> None:
    """Ten times the patterns make no image ten times as dear, whatever form they have (issue 8, item 1)."""
    stored = [image(f"registry.example/lib/image-{number}:1") for number in range(20)]
    few, many = (Pins([form.format(one) for one in range(count)]) for count in (1000, 10_000))

    def times(pins: Pins) -> float:
        return seconds(lambda: [pins.match(one) for one in stored], TIMES)

    assert times(many) / times(few) < 4


def test_any_name_and_any_pattern_are_enough() -> None:
    """S12: tags and digests count, and one match of many."""
    stored = image("a.b/x:1", "c.d/y:2", f"e.f/z@{DIGEST}")

    assert Pins(["nothing", "c.d/y:2"]).match(stored)
    assert Pins([f"e.f/z@{DIGEST}"]).match(stored)
    assert not Pins(["nothing", "else"]).match(stored)


@pytest.mark.parametrize("patterns", [[], [""], ["*"]])
def test_an_image_without_names_is_pinned_by_no_pattern(patterns: list[str]) -> None:
    """S12: patterns match names, so that dangling images can always be collected."""
    assert not Pins(patterns).match(image())


def test_patterns_that_can_match_nothing_are_told_with_an_end() -> None:
    """A few of them each by itself, a long list of them by its number."""
    told = list(never_matching([*map(str, range(1000)), "a.b/c:1"]))
    assert told[0].endswith("names are complete, such as docker.io/library/0:latest")
    assert (len(told), told[-1]) == (9, "pinned_images: 992 more can match no image")
