"""What a name may look like, and what is no name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from criimage.conformance.behaviour import Need, group

if TYPE_CHECKING:
    from criimage.conformance.trial import Trial

_names = group("names")


async def _refused_names(t: Trial, *names: str) -> None:
    before = len(t.supply.hub.requests) if t.supply.scripted else 0
    for name in names:
        await t.refused(t.client.pull(name), what=f"the pull of {name[:100]!r}")
    if t.supply.scripted:
        asked = [one.path for one in t.supply.hub.requests[before:]]
        t.expect(not asked, "no registry is asked about what is no name", f"it was asked for {asked[:3]}")


@_names.required(
    "N1",
    "A malformed name is refused, and no registry is asked.",
    why="A kubelet reports InvalidImageName or ErrImagePull; a name that reaches a URL may become another one.",
    source="cri-o N1; dockershim G1",
)
async def malformed_names(t: Trial) -> None:
    host = t.supply.host
    await _refused_names(t, f"{host}/a b:1", f"{host}/a:b:c", f"{host}/a@sha256:12", f"{host}/:1", f"{host}/a:", "::")


@_names.required(
    "N2",
    "An upper-case repository is refused.",
    why="Registries have none; some file systems would mix it up with another.",
    source="cri-o N1",
)
async def upper_case_repository(t: Trial) -> None:
    await _refused_names(t, f"{t.supply.host}/Team/App:1")


@_names.extended(
    "N3",
    "An ID is no name that can be pulled.",
    why="64 hex digits would become docker.io/library/…, a name that anybody can register.",
    source="cri-o N5",
)
async def an_id_cannot_be_pulled(t: Trial) -> None:
    image = await t.present((await t.pulled()).name)
    await _refused_names(t, image.id)


@_names.required(
    "N4",
    "A name of more than 255 characters before the tag is refused.",
    why="Longer ones cannot be stored as file names.",
    source="cri-o N1",
)
async def long_names(t: Trial) -> None:
    await _refused_names(t, f"{t.supply.host}/{'a/' * 200}b:1")


@_names.extended(
    "N5",
    "A name with `..`, `%`, `?` or `#` is refused, and no registry is asked.",
    why="In a URL or a path it would mean something else.",
    source="dockershim G7",
)
async def names_that_are_paths(t: Trial) -> None:
    host = t.supply.host
    await _refused_names(t, f"{host}/a/../b:1", f"{host}/a%2fb:1", f"{host}/a?b=c:1", f"{host}/a#b:1")


@_names.required(
    "N6",
    "Host and port of the registry stay in the names.",
    why="A kubelet looks for the very string it pulled with.",
    source="cri-protocol 2.5c",
)
async def the_host_stays(t: Trial) -> None:
    made = await t.pulled(None, "1")
    image = await t.present(made.name)
    t.equal((image.repo_tags, made.by_digest in image.repo_digests), ([made.name], True), "tags, and the digest's name")


@_names.required(
    "N7",
    "A repository may be many folders deep.",
    why="Registries of companies are.",
    source="cri-o N1",
)
async def deep_repositories(t: Trial) -> None:
    made = await t.pulled(None, "1", path="a/b/c/d/e-f/g_h/i.j")
    await t.present(made.name)


@_names.extended(
    "N8",
    "A tag may have 128 characters, dots, hyphens and capital letters.",
    why="Build systems use all of them.",
    source="cri-o N1",
)
async def long_tags(t: Trial) -> None:
    made = await t.pulled(None, "V" + "1.2-x_" * 21 + "Z")
    t.equal((await t.present(made.name)).repo_tags, [made.name], "repo_tags")


@_names.extended(
    "N9",
    "A digest that is none of sha256's is refused.",
    why="What cannot be checked cannot be trusted.",
    source="cri-o N1",
)
async def other_digests(t: Trial) -> None:
    await _refused_names(t, f"{t.supply.host}/a@md5:{'0' * 32}", f"{t.supply.host}/a@sha256:{'Z' * 64}")


@_names.extended(
    "N10",
    "An option of a command line is no name.",
    why="A service that calls a tool would hand it on.",
    source="design 4, dangerous names",
)
async def options_are_no_names(t: Trial) -> None:
    await _refused_names(t, "--help", "-v", f"--insecure {t.supply.host}/a:1", "$(id)", "`id`", "a\nb", "a\x00b")


@_names.extended(
    "N11",
    "A malformed name in a status finds nothing or is refused, and the service lives.",
    why="People mistype in `crictl inspecti`.",
    source="peers-observed 2",
    needs=Need.HOSTILE,
)
async def malformed_lookups(t: Trial) -> None:
    for text in ("::", "a b", "A/B:c:d", "..", "/", "\x00", "a" * 5000):
        try:
            found = (await t.client.status(text)).image.id
        except Exception as error:
            if type(error).__name__ != "CallError":
                raise
            found = ""
        t.expect(not found, f"{text[:50]!r} finds nothing", f"it finds {found}")
    await t.client.version()
