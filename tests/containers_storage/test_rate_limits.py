"""Registries that count: what is asked of them, and what they ask for."""

from __future__ import annotations

import pytest

from containers_storage.opened import opened
from criimage import errors
from criimage.backend import PullContext
from criimage.pulls.policy import PullPolicy, RegistryPolicy
from criimage.pulls.sharing import Pulls
from criimage.reference import Name, Reference
from criimage.testing.oci import image, index, layer
from criimage.testing.scripted_registry import Answer, ScriptedRegistry, Stage, scripted_registry
from criimage.work import Work
from criimage_containers_storage.pulling.rate_limits import seconds_to_wait, waits
from criimage_containers_storage.registries.registries_conf import Mirror, Registries, Registry
from parts.store import insecure_registries, store

SMALL = image(layer({"etc/motd": b"hello"}))
OTHER = image(layer({"etc/motd": b"other"}))
SECONDS = (2.0, 15.0)
"""The progress timeout, and the one for a machine so busy that skopeo has no answer within the first."""


@pytest.mark.engine
@pytest.mark.usefixtures("each_skopeo", "each_way")
async def test_a_registry_that_asks_to_wait_is_told_as_that() -> None:
    """The seconds it asked for stand in the text, pulled anew or asked about, at the progress timeout (T15, P15)."""
    with scripted_registry() as hub, store() as local:
        local.write_registries(insecure_registries("127.0.0.1"))
        name = hub.put(SMALL, "app", "1")
        async with opened(local) as under_test, Work() as work:
            pulls = Pulls(under_test.backend, work)
            for before in (hub.script(Stage.MANIFEST, Answer(429, b"", {"Retry-After": "120"})), None):
                if before is None:
                    pulls.set_policy(PullPolicy())
                    await pulls.pull(Name.parse(name), None, PullContext())
                    hub.script(Stage.MANIFEST, Answer(429, b"", {"Retry-After": "120"}))
                error = await cut_off(pulls, name)
                assert isinstance(error, errors.RateLimited)
                assert error.text == f"toomanyrequests: the registry asks to wait 120 s: {name}"
                if before is not None:
                    before.release()


async def cut_off(pulls: Pulls, name: str) -> errors.CriimageError:
    """Pulls what does not end by itself, and returns what it is cut off with once there was time for an answer."""
    error = errors.CriimageError("")
    for seconds in SECONDS:
        pulls.set_policy(PullPolicy(RegistryPolicy(seconds)))
        with pytest.raises(errors.CriimageError) as caught:
            await pulls.pull(Name.parse(name), None, PullContext())
        error = caught.value
        if not isinstance(error, errors.PullTimeout):
            break
    return error


@pytest.mark.engine
@pytest.mark.usefixtures("each_skopeo")
async def test_a_manifest_that_is_counted_is_asked_for_once() -> None:
    """On docker.io an unchanged image costs the request for its tag, a changed one the same: one each (P4, P5)."""
    with scripted_registry() as hub, store() as local:
        hub.put(index(SMALL), "library/app", "1")
        local.write_registries(f'[[registry]]\nprefix = "docker.io"\nlocation = "{hub.address}"\ninsecure = true\n')
        async with opened(local) as under_test:
            first = await under_test.pull("docker.io/app:1")
            assert asked(hub) == 1
            assert await under_test.pull("docker.io/app:1") == first
            assert asked(hub) == 2
            assert under_test.reports[-1].unchanged
            hub.put(index(OTHER), "library/app", "1")
            assert await under_test.pull("docker.io/app:1") != first
            assert asked(hub) == 3
            assert not under_test.reports[-1].unchanged


def asked(hub: ScriptedRegistry) -> int:
    """How often the tag's manifest was fetched."""
    return sum(one.stage is Stage.MANIFEST and one.method == "GET" and one.reference == "1" for one in hub.requests)


ASKED = 'level=debug msg="Detected \'Retry-After\' header \\"{}\\""\n'
SLEEPS = 'level=debug msg="Too many requests to http://h/v2/: sleeping for {} seconds before next attempt"\n'


@pytest.mark.parametrize(
    ("said", "asleep", "seconds"),
    [
        ("", False, None),
        (SLEEPS.format("2.000000"), True, 2),
        (ASKED.format("90") + SLEEPS.format("60.000000"), True, 90),
        (SLEEPS.format("2.000000") + 'level=debug msg="GET http://h/v2/"\n', False, 2),
        (ASKED.format("soon") + SLEEPS.format("4.0"), True, 4),
        # A date that Python's reader does not refuse but chokes on.
        (ASKED.format("1 Jan 2024 00:00:00 +99999999999999999999") + SLEEPS.format("4.0"), True, 4),
        (ASKED.format("1 Jan 99999999999999999999 00:00:00 GMT") + SLEEPS.format("4.0"), True, 4),
    ],
)
def test_what_skopeo_says_about_waiting(said: str, asleep: bool, seconds: int | None) -> None:
    """The header's number counts, else how long skopeo sleeps; it sleeps while it has said nothing after that."""
    assert (waits(said), seconds_to_wait(said)) == (asleep, seconds)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("docker.io/library/x:1", True),
        ("Docker.io/x:1", True),
        ("registry-1.docker.io/library/x:1", True),
        ("docker.io:443/library/x:1", True),
        ("hub.example/x:1", True),
        ("cached.example/x:1", True),
        ("a.example/docker.io/x:1", False),
        ("docker.io.example/x:1", False),
    ],
)
def test_who_counts_manifests(name: str, counts: bool) -> None:
    """Docker Hub, whatever it is called, and whichever name is served by it or by a mirror of it (P4, P5)."""
    registries = Registries(
        registries=(
            Registry("hub.example", "docker.io/library"),
            Registry("cached.example", "", mirrors=(Mirror("registry-1.docker.io/library"),)),
        )
    )
    assert registries.asks_docker_hub(Reference.parse(name)) is counts
