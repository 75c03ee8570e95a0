"""Whose image it is: what a pull does with the credentials that came with it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from criimage.conformance.behaviour import Need, group
from criimage.conformance.client import Status, auth_of
from criimage.conformance.supply import PASSWORD, USER
from criimage.cri.runtime import v1

if TYPE_CHECKING:
    from criimage.conformance.trial import Trial

_credentials = group("credentials", Need.SCRIPTED)
_WRONG = auth_of(USER, "wrong-password")
_RIGHT = auth_of(USER, PASSWORD)


@_credentials.required(
    "C1",
    "With user and password a private image is pulled.",
    why="It is what a kubelet makes of an imagePullSecret.",
    source="cri-protocol 2.4",
)
async def the_right_password(t: Trial) -> None:
    made = await t.publish(hub=t.supply.basic)
    await t.client.pull(made.name, _RIGHT)
    await t.present(made.name)


@_credentials.required(
    "C2",
    "Without credentials a private image is refused, and nothing is there.",
    why="It is private.",
    source="cri-protocol 2.4",
)
async def no_credentials(t: Trial) -> None:
    made = await t.publish(hub=t.supply.basic)
    await t.refused(t.client.pull(made.name), what="the pull without credentials")
    await t.absent(made.name)


@_credentials.required(
    "C3",
    "With a wrong password a private image is refused, and nothing is there.",
    why="A kubelet goes on to the next credentials only after an error.",
    source="cri-protocol 2.4",
)
async def a_wrong_password(t: Trial) -> None:
    made = await t.publish(hub=t.supply.basic)
    await t.refused(t.client.pull(made.name, _WRONG), what="the pull with a wrong password")
    await t.absent(made.name)


@_credentials.required(
    "C4",
    "A stored private image is refused to who has no right to it, by tag.",
    why="A kubelet records each successful pull as a proof of access (KEP-2535).",
    source="cri-protocol 2.5b",
)
async def stored_and_private_by_tag(t: Trial) -> None:
    made = await t.publish(hub=t.supply.basic)
    await t.client.pull(made.name, _RIGHT)
    for auth, who in ((None, "nobody"), (_WRONG, "a wrong password")):
        await t.refused(t.client.pull(made.name, auth), what=f"the pull with {who}")
    await t.present(made.name)


@_credentials.required(
    "C5",
    "A stored private image is refused to who has no right to it, by digest.",
    why="The same proof; some services ask no registry about a digest that they have.",
    source="cri-protocol 2.5b; dockershim, Corrections",
)
async def stored_and_private_by_digest(t: Trial) -> None:
    made = await t.publish(hub=t.supply.basic)
    await t.client.pull(made.by_digest, _RIGHT)
    for auth, who in ((None, "nobody"), (_WRONG, "a wrong password")):
        await t.refused(t.client.pull(made.by_digest, auth), what=f"the pull with {who}")


@_credentials.required(
    "C6",
    "The field `auth`, base64 of `user:password`, is understood.",
    why="`crictl pull --auth` sends nothing else.",
    source="cri-protocol 3.1; cri-o A1",
)
async def the_auth_field(t: Trial) -> None:
    made = await t.publish(hub=t.supply.basic)
    text = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    await t.client.pull(made.name, v1.AuthConfig(auth=text))
    await t.present(made.name)


@_credentials.extended(
    "C7",
    "A field `auth` that is no base64 is refused before any registry is asked.",
    why="A slip of the user's must not become an anonymous pull.",
    source="cri-o A2",
)
async def a_broken_auth_field(t: Trial) -> None:
    made = await t.publish()
    before = len(t.supply.hub.requests)
    await t.refused(t.client.pull(made.name, v1.AuthConfig(auth="%%%")), what="the pull")
    t.equal(len(t.supply.hub.requests) - before, 0, "the number of requests to the registry")


@_credentials.required(
    "C8",
    "A registry that gives tokens is asked for one with the credentials.",
    why="Nearly all public registries work so.",
    source="cri-o A9; distribution's token specification",
)
async def tokens(t: Trial) -> None:
    made = await t.publish(hub=t.supply.bearer)
    await t.refused(t.client.pull(made.name, _WRONG), what="the pull with a wrong password")
    await t.client.pull(made.name, _RIGHT)
    await t.present(made.name)


@_credentials.required(
    "C9",
    "No error shows a password.",
    why="A pod's events are read by many.",
    source="cri-protocol 2.4; design 4, credentials",
)
async def no_password_in_errors(t: Trial) -> None:
    made = await t.publish(hub=t.supply.basic)
    encoded = base64.b64encode(f"nobody:{PASSWORD}".encode()).decode()
    auth = auth_of("nobody", PASSWORD)
    for name in (made.name, f"{made.repository}:none"):
        # `refused` looks for the password itself.
        error = await t.refused(t.client.pull(name, auth), what="the pull")
        t.expect(encoded not in error.text, "no error shows what was sent to the registry", "this one does")


@_credentials.extended(
    "C10",
    "Credentials whose `server_address` names another host are not sent.",
    why="They belong to somebody else.",
    source="cri-protocol 1.2, AuthConfig",
)
async def credentials_of_another_host(t: Trial) -> None:
    made = await t.publish(hub=t.supply.basic)
    auth = v1.AuthConfig(username=USER, password=PASSWORD, server_address="registry.example.com")
    await t.refused(t.client.pull(made.name, auth), what="the pull")
    users = {one.user for one in t.supply.basic.requests if one.repository == made.path}
    t.expect(USER not in users, "the registry never sees the credentials", "it has seen them")


@_credentials.extended(
    "C11",
    "A password with colons, spaces and letters of other alphabets arrives as it is.",
    why="Generated passwords have all of them.",
    source="cri-o A3",
)
async def odd_passwords(t: Trial) -> None:
    odd = "a:b c/\u00e4\u20ac%41"
    t.supply.basic.accounts["odd"] = odd
    made = await t.publish(hub=t.supply.basic)
    await t.client.pull(made.name, auth_of("odd", odd))
    await t.present(made.name)


@_credentials.extended(
    "C12",
    "Empty credentials are none.",
    why="A kubelet may send the message with nothing in it.",
    source="cri-o A5",
)
async def empty_credentials(t: Trial) -> None:
    made = await t.publish()
    await t.client.pull(made.name, v1.AuthConfig())
    await t.present(made.name)


@_credentials.extended(
    "C13",
    "A refusal for want of credentials says so.",
    why="It is the most frequent mistake, and the text is all that a pod's owner sees.",
    source="cri-protocol 2.4; dockershim P13",
)
async def a_refusal_says_so(t: Trial) -> None:
    made = await t.publish(hub=t.supply.basic)
    error = await t.refused(t.client.pull(made.name, _WRONG), Status.UNKNOWN, what="the pull")
    words = ("unauthorized", "authentication", "denied", "credentials", "authorization", "401", "403")
    t.expect(any(word in error.text.lower() for word in words), f"the text has one of {words}", f"it is {error.text}")
