"""What a failure looks like: the code, the text, and whether it stays the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from criimage.conformance.behaviour import Need, group
from criimage.conformance.client import Status
from criimage.testing import oci
from criimage.testing.scripted_registry import Answer, Change, Close, Stage, corrupted, truncated

if TYPE_CHECKING:
    from criimage.conformance.trial import Trial

_errors = group("errors")
_scripted = group("errors", Need.SCRIPTED)
_TEXT_LIMIT = 4096


def _begins_with(t: Trial, text: str, word: str) -> None:
    t.expect(text.startswith(word), f"the text begins with {word}", f"it is {text!r}"[:600])


@_errors.extended(
    "E1",
    "A failed pull has the code UNKNOWN.",
    why="A kubelet strips only that code; any other stands in the pod's event, in front of the text.",
    source="cri-protocol 2.4",
)
async def the_code_of_a_failed_pull(t: Trial) -> None:
    made = await t.publish()
    await t.refused(t.client.pull(f"{made.repository}:none"), Status.UNKNOWN, what="the pull")


@_errors.required(
    "E2",
    "The same failure has the same text.",
    why="A kubelet that tried several credentials keeps the reason only while the texts are equal.",
    source="cri-protocol 2.4",
)
async def the_text_is_stable(t: Trial) -> None:
    made = await t.publish()
    texts = {(await t.refused(t.client.pull(f"{made.repository}:none"))).text for _ in range(3)}
    t.expect(len(texts) == 1, "three failures have one text", f"there are {sorted(texts)}"[:600])


@_errors.extended(
    "E3",
    "A failure's text is one line.",
    why="Events and tables show one.",
    source="design 4, pull codes and texts",
)
async def the_text_is_one_line(t: Trial) -> None:
    made = await t.publish()
    text = (await t.refused(t.client.pull(f"{made.repository}:none"))).text
    t.expect("\n" not in text and "\r" not in text, "the text has one line", f"it is {text!r}"[:600])


@_errors.required(
    "E4",
    "An unknown method is UNIMPLEMENTED.",
    why="Clients find out so what a service has.",
    source="cri-protocol 2.1; relay-and-cri 1",
)
async def unknown_methods(t: Trial) -> None:
    for method in ("/runtime.v1.ImageService/NoSuchMethod", "/runtime.v1.NoSuchService/ListImages"):
        await t.refused(t.client.send(method, b""), Status.UNIMPLEMENTED, what=method)


@_errors.extended(
    "E5",
    "A failed pull's text names the image.",
    why="Logs have many pulls at once.",
    source="design 4, pull codes and texts",
)
async def the_text_names_the_image(t: Trial) -> None:
    made = await t.publish()
    text = (await t.refused(t.client.pull(f"{made.repository}:none"))).text
    t.expect(made.path in text, f"the text has {made.path}", f"it is {text}")


@_errors.extended(
    "E6",
    "A missing image is told as missing.",
    why="It is what the pod's owner has to know.",
    source="dockershim P13; cri-o section 8",
)
async def missing_is_told(t: Trial) -> None:
    made = await t.publish()
    text = (await t.refused(t.client.pull(f"{made.repository}:none"))).text.lower()
    words = ("manifest unknown", "not found", "unknown to registry", "does not exist", "no such")
    t.expect(any(word in text for word in words), f"the text has one of {words}", f"it is {text}")


@_errors.extended(
    "E7",
    "A registry that refuses the connection is told with `RegistryUnavailable` first.",
    why="A kubelet shows it as the reason, in place of ErrImagePull.",
    source="cri-protocol 2.4",
)
async def a_refused_connection(t: Trial) -> None:
    name = f"127.0.0.1:1/{t.supply.run}/e7:1"
    error = await t.refused(t.client.pull(name), Status.UNKNOWN, what="the pull")
    _begins_with(t, error.text, "RegistryUnavailable")


@_scripted.extended(
    "E8",
    "A registry that answers 503 is told with `RegistryUnavailable` first.",
    why="The same reason, behind a balancer.",
    source="cri-protocol 2.4; cri-o section 8",
)
async def service_unavailable(t: Trial) -> None:
    made = await t.publish()
    t.supply.hub.script(Stage.MANIFEST, Answer(503, b"<html>down</html>"), repository=made.path)
    error = await t.refused(t.client.pull(made.name), Status.UNKNOWN, what="the pull")
    _begins_with(t, error.text, "RegistryUnavailable")


@_scripted.extended(
    "E9",
    "A registry that asks for patience is told as such.",
    why="Docker Hub's limit is the most frequent failure of large clusters.",
    source="cri-o section 8; dockershim P13",
)
async def too_many_requests(t: Trial) -> None:
    made = await t.publish()
    body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}'
    # Not for long: some clients try again, and wait half a minute where they are not told how long.
    answer = Answer(429, body, {"Content-Type": "application/json", "Retry-After": "1"})
    t.supply.hub.script(Stage.MANIFEST, answer, repository=made.path)
    text = (await t.refused(t.client.pull(made.name, seconds=60.0), what="the pull")).text.lower()
    words = ("toomanyrequests", "too many requests", "rate limit", "429")
    t.expect(any(word in text for word in words), f"the text has one of {words}", f"it is {text}")


@_scripted.required(
    "E10",
    "A layer that is not what its digest promises is refused, and the image is not there.",
    why="The digest is all the trust there is.",
    source="cri-o section 8",
)
async def a_corrupt_layer(t: Trial) -> None:
    made = await t.publish(oci.image(oci.noise_layer(100_000, seed=f"{t.supply.run} e10")))
    t.supply.hub.script(Stage.LAYER, Change(corrupted), repository=made.path)
    await t.refused(t.client.pull(made.name, seconds=60.0), what="the pull")
    await t.absent(made.name)


@_scripted.required(
    "E11",
    "A manifest that is not what the digest promises is refused.",
    why="Somebody who pins a digest relies on it.",
    source="cri-o section 8",
)
async def a_corrupt_manifest(t: Trial) -> None:
    made = await t.publish(None, path="app")
    # Whole, so that nothing but the digest gives it away.
    other = t.image("other")
    await t.publish(other, "other", path="app")
    script = Change(lambda _data: other.manifest.data)
    t.supply.hub.script(Stage.MANIFEST, script, repository=made.path, reference=made.digest)
    await t.refused(t.client.pull(made.by_digest), what="the pull by digest")
    await t.absent(made.by_digest)


@_scripted.required(
    "E12",
    "A layer that ends too early is refused, and the image is not there.",
    why="Connections break; half an image must not start.",
    source="cri-o section 8",
)
async def a_short_layer(t: Trial) -> None:
    made = await t.publish(oci.image(oci.noise_layer(100_000, seed=f"{t.supply.run} e12")))
    t.supply.hub.script(Stage.LAYER, Change(truncated), repository=made.path)
    await t.refused(t.client.pull(made.name, seconds=60.0), what="the pull")
    await t.absent(made.name)


@_scripted.extended(
    "E13",
    "A pull that fails because the connection breaks works the next time.",
    why="A kubelet tries again, and expects no trace of the first try.",
    source="cri-o P12",
)
async def the_next_time_works(t: Trial) -> None:
    made = await t.publish(oci.image(oci.noise_layer(200_000, seed=f"{t.supply.run} e13")))
    t.supply.hub.script(Stage.LAYER, Close(after=50_000), repository=made.path, times=1)
    try:
        await t.client.pull(made.name, seconds=60.0)
    except Exception as error:
        if type(error).__name__ != "CallError":
            raise
        await t.client.pull(made.name)
    await t.present(made.name)


@_scripted.extended(
    "E14",
    "A registry's long error makes no long answer.",
    why="The text goes into the pod's status, which is stored and sent often.",
    source="design 4, foreign text",
)
async def long_texts_are_cut(t: Trial) -> None:
    made = await t.publish()
    body = b'{"errors":[{"code":"DENIED","message":"' + b"x" * 200_000 + b'"}]}'
    t.supply.hub.script(Stage.MANIFEST, Answer(403, body, {"Content-Type": "application/json"}), repository=made.path)
    text = (await t.refused(t.client.pull(made.name), what="the pull")).text
    t.expect(len(text) <= _TEXT_LIMIT, f"the text has at most {_TEXT_LIMIT} characters", f"it has {len(text)}")


@_scripted.extended(
    "E15",
    "A registry's HTML page is not passed on.",
    why="Balancers answer with pages; an event is no browser.",
    source="design 4, pull codes and texts; dockershim P15",
)
async def no_html(t: Trial) -> None:
    made = await t.publish()
    t.supply.hub.script(Stage.MANIFEST, Answer(502, b"<html><body>Bad Gateway</body></html>"), repository=made.path)
    text = (await t.refused(t.client.pull(made.name), what="the pull")).text
    t.expect("<html" not in text.lower(), "the text has no HTML", f"it is {text}")
