"""Names, references and IDs: what is accepted, what it means, and that nothing else gets in (cri-o N1-N5, N7, N13)."""

from __future__ import annotations

import pytest
from docker_image.reference import Reference as Upstream  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from criimage.errors import InvalidRequest
from criimage.reference import ImageID, Name, Reference, registry_host

HEX = "0123456789abcdef" * 4
SHA256 = f"sha256:{HEX}"
SHA512 = f"sha512:{HEX * 2}"

SHORT = ["busybox", "foo/bar", "localhost", "a.b", "h:5000", "a/b/c:1", "a-b/c", f"x@{SHA256}", HEX[:63], f"{HEX}0"]
QUALIFIED = ["localhost/x", "a.b/x", "h:5000/x", "localhost:1/x", "[::1]/x", "[fe80::1]:5000/x", "A.B/x", "127.0.0.1/x"]


@pytest.mark.parametrize("text", SHORT)
def test_a_name_without_registry_is_short(text: str) -> None:
    """N1: without `.`, `:` or `localhost` before the first slash a name has no registry."""
    assert Name.parse(text).domain is None


@pytest.mark.parametrize("text", QUALIFIED)
def test_a_name_with_a_registry_is_qualified(text: str) -> None:
    """N1: a first component with `.` or `:`, or `localhost`, is the registry, kept as typed."""
    assert Name.parse(text).domain == text.partition("/")[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("index.docker.io/a/b", "docker.io/a/b:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("docker.io/library/busybox", "docker.io/library/busybox:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("example.com:8000/foo:tag", "example.com:8000/foo:tag"),
        (f"example.com/x:tag@{SHA256}", f"example.com/x@{SHA256}"),
        (f"example.com/x@{SHA512}", f"example.com/x@{SHA512}"),
    ],
)
def test_a_qualified_name_is_normalised(text: str, expected: str) -> None:
    """N3, N4, N13: docker.io's spellings become one, `library/` and `:latest` are added, a digest drops the tag."""
    assert str(Reference.parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "registries", "expected"),
    [
        ("busybox", ["quay.io", "docker.io"], ["quay.io/busybox:latest", "docker.io/library/busybox:latest"]),
        ("foo/bar:1", ["docker.io"], ["docker.io/foo/bar:1"]),
        ("localhost", ["quay.io"], ["quay.io/localhost:latest"]),
        ("h:5000", ["quay.io"], ["quay.io/h:5000"]),
        (
            f"image:t@{SHA256}",
            ["q.io", "docker.io"],
            [f"q.io/image@{SHA256}", f"docker.io/library/image@{SHA256}"],
        ),
        ("x", ["index.docker.io"], ["docker.io/library/x:latest"]),
    ],
)
def test_a_short_name_means_something_in_each_registry(text: str, registries: list[str], expected: list[str]) -> None:
    """N8, N13: tag and digest stay attached; only docker.io adds `library/`."""
    name = Name.parse(text)

    assert [str(name.qualified(registry)) for registry in registries] == expected


@pytest.mark.parametrize("domain", ["", "quay", "-x.io", "a b.io", "x.io/y", "x.io:port", "x.io\n", "é.io", "[::g]"])
def test_a_name_is_not_qualified_by_what_is_no_registry(domain: str) -> None:
    """N1: a reference's registry is one that is read as one again, so no tool takes it for something else."""
    with pytest.raises(InvalidRequest):
        Name.parse("busybox").qualified(domain)


@pytest.mark.parametrize("text", ["camelCaseName", "a.b/Foo", "Foo/Bar", "localhost/X:tag", f"UP@{SHA256}"])
def test_upper_case_is_told(text: str) -> None:
    """N2, N13: an upper-case repository is refused in words that say why."""
    with pytest.raises(InvalidRequest, match="must be lowercase"):
        Name.parse(text)


def test_a_host_of_capital_letters() -> None:
    """Issue 10.5: what has a capital letter can be no path, so it is a host, as in docker and containerd."""
    name = Name.parse("MYREG/app:1")

    assert (name.domain, name.path, name.tag) == ("MYREG", "app", "1")
    assert str(name.qualified("MYREG")) == "MYREG/app:1"


REFUSED = [
    *("", "@", ":", "/", "example.com/", "/x", "a//b", "a/", ":tag", "a:", "a@", "a:b:c", "a:b/c", " a", "a ", "a\n"),
    *("\na", "a\0", "a\0b", "a:b\n", "a/b\n", "a:\0", f"a@{SHA256}\n", f"{SHA256}\n", "-x", "--help", "../x", "a/../b"),
    *("./a", "a..b", "a___b", "a._b", "a-", "_a", "a/-b", "x.io/-b", "-a.b/x", "a-.b/x", "a..b/x", "h:/x", "h:x/y"),
    *("h:٣/x", "٣", "x:²", "é", "K", "K", "\u017f", "a:é", "[::1]", "[::1/x", "[::g]/x", "[fe80::1%25]/x"),
    *("a:-t", "a:.t", "a:" + "t" * 129, "http://a.b/x", "docker://x", "a?b", "a b", "a\tb", "a\\b", "$(id)", "%2e/a"),
    *("a@sha256:", f"a@sha256:{HEX[:63]}", f"a@sha256:{HEX}0", f"a@sha256:{HEX.upper()}", f"a@md5:{HEX[:32]}"),
    *(f"a@{HEX}", f"a@{SHA256}@{SHA256}", f"@{SHA256}", f"a@tarsum.v1+sha256:{HEX}", "a@sha256:٣" + HEX[:63]),
    *("\ud800", "a:\udcff", "a" * 256, "a.b/" + "c" * 252, "a" * 129 + "." + "b" * 129 + "/c"),
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_outside_the_grammar_is_refused(text: str) -> None:
    """N2, N3: a text that is not wholly a name is an error, with one printable line to say so."""
    with pytest.raises(InvalidRequest) as caught:
        Name.parse(text)

    assert caught.value.text.isprintable()
    assert len(caught.value.text) < 250


@pytest.mark.parametrize("text", [HEX, SHA256])
def test_an_id_is_no_name(text: str) -> None:
    """N5: 64 lower-case hex digits, bare or with `sha256:`, never become a remote name."""
    with pytest.raises(InvalidRequest, match="cannot parse an image ID"):
        Name.parse(text)


def test_a_repository_may_be_called_sha256() -> None:
    """N5 is about IDs only: with a registry, or a shorter tag, `sha256` is a repository like any other."""
    assert Name.parse("sha256:cafe").path == "sha256"
    assert Name.parse(f"localhost/{SHA256}").tag == HEX


@pytest.mark.parametrize(
    "text", ["a.b/" + "c" * 251, "c" * 255, "c" * 255 + ":" + "t" * 128, f"{'c' * 255}:{'t' * 128}@{SHA512}"]
)
def test_the_longest_name_is_accepted(text: str) -> None:
    """N2: 255 characters without tag and digest, and those on top."""
    assert str(Name.parse(text)) == text


def test_a_name_that_grows_too_long_is_refused() -> None:
    """N2, N3: the limit holds for what is sent, with registry and `library/`."""
    name = Name.parse("c" * 255)

    with pytest.raises(InvalidRequest, match="more than 255"):
        name.qualified("docker.io")


@pytest.mark.parametrize(
    "text", ["a" * 10**5, "a/" * 50_000, "a-" * 50_000, "-" * 10**5, "a." * 50_000, "a" + "-" * 10**5]
)
@pytest.mark.parametrize("end", ["", "!", "/x", "/x!", ":t", "@"])
def test_a_huge_text_takes_linear_time(text: str, end: str) -> None:
    """N2: 100 kB of anything is refused before the test's own limit; backtracking would take hours."""
    with pytest.raises(InvalidRequest):
        Name.parse(text + end)


def test_a_reference_needs_a_registry() -> None:
    """N8: a short name is no complete reference unless a registry is given for it."""
    with pytest.raises(InvalidRequest, match="names no registry"):
        Reference.parse("busybox")

    assert str(Reference.parse("busybox", "quay.io")) == "quay.io/busybox:latest"
    assert str(Reference.parse("a.b/busybox", "quay.io")) == "a.b/busybox:latest"


def test_a_digest_takes_the_place_of_a_tag() -> None:
    """N4: a reference has exactly one of the two; a bad digest is refused."""
    reference = Reference.parse("a.b/x:tag")

    assert str(reference.with_digest(SHA256)) == f"a.b/x@{SHA256}"
    with pytest.raises(ValueError, match="64 lower-case"):
        reference.with_digest(f"sha256:{HEX[:63]}")


def test_an_id_is_the_same_in_both_spellings() -> None:
    """N5: equality, hash and order look at the digits, `str` keeps the spelling of its store."""
    bare, prefixed = ImageID.parse(HEX), ImageID.parse(SHA256)

    assert bare == prefixed
    assert hash(bare) == hash(prefixed)
    assert not bare < prefixed
    assert (str(bare), str(prefixed)) == (HEX, SHA256)


class _Text(str):
    """A text of another class than `str`, as some libraries hand them out."""

    __slots__ = ()


def test_the_spelling_of_an_id_does_not_hang_on_identity() -> None:
    """N5: a text that is only equal to the bare digits is a bare ID as well."""
    assert not ImageID.parse(_Text(HEX)).prefixed


@pytest.mark.parametrize(
    "text", ["", HEX[:63], HEX + "0", HEX.upper(), f"sha256:{SHA256}", f"sha512:{HEX}", HEX + "\n"]
)
def test_anything_else_is_no_id(text: str) -> None:
    """N5: exactly 64 lower-case hex digits, once."""
    with pytest.raises(ValueError, match="not an image ID"):
        ImageID.parse(text)


FRAGMENTS = [
    *("a", "b9", "Ab", "K", ".", "_", "__", "___", "-", "--", "/", "//", ":", "localhost", "localhost:5000", "..", "é"),
    *("docker.io", "index.docker.io", "[::1]", "127.0.0.1:5000", "ex.com", "EX.com", "-x", "../", "\0", " ", "٣", "²"),
    *("\u017f", ":latest", ":1", "x" * 120, HEX, HEX[:63], SHA256, "%", "?", "library/", "h:5000/", "@"),
    *(f"@{SHA256}", f"@sha256:{HEX.upper()}", f"@{SHA512}", f"@sha384:{HEX[:32]}{HEX}", f"@md5:{HEX[:32]}"),
]
NAMES = st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=5).map("".join)


def _upstream(text: str) -> str | None:
    """What docker-image-py reads, normalised, or None where it refuses."""
    try:
        found = Upstream.parse_normalized_named(text)
    except Exception:  # noqa: BLE001 - it has a dozen kinds of refusal, and leaks some of other libraries
        return None
    tail = f"@{found['digest']}" if found["digest"] else f":{found['tag'] or 'latest'}"
    return f"{found['name']}{tail}"


def _stricter_by_rule(text: str) -> bool:
    """Where we refuse on purpose what docker-image-py accepts; each line is one justified difference."""
    first, slash, _ = text.partition("/")
    name = (_upstream(text) or "").partition("@")[0]
    return (
        # N1: it takes a first component in upper case for a registry, CRI-O takes it for a bad repository.
        bool(slash and first.lower() != first and not set(".:") & set(first))
        # N5: it would pull the repository `sha256`.
        or text == SHA256
        # N2: it lets a line end pass, because `$` matches before one.
        or text.endswith("\n")
        # N2: its limit of 255 characters leaves out the registry.
        or len(name.rpartition(":")[0] or name) > 255
    )


@settings(max_examples=2000, deadline=None)
@given(NAMES)
def test_the_grammar_is_docker_image_pys(text: str) -> None:
    """N2-N4: on any awkward text both give the same reference, or both refuse, or we do for a reason listed here."""
    try:
        ours = str(Reference.parse(text, "docker.io"))
    except InvalidRequest:
        ours = None

    if ours is None and _stricter_by_rule(text):
        return
    assert ours == _upstream(text)


@pytest.mark.parametrize("text", [*SHORT, *QUALIFIED, *REFUSED])
def test_awkward_names_mean_what_docker_image_py_says(text: str) -> None:
    """N2-N4: the same for the names of this file."""
    test_the_grammar_is_docker_image_pys.hypothesis.inner_test(text)  # type: ignore[attr-defined]


@settings(max_examples=2000, deadline=None)
@given(NAMES)
def test_every_name_survives_its_own_text(text: str) -> None:
    """N2: what was accepted is written as it was typed, and its reference reads back as itself."""
    try:
        name = Name.parse(text)
        reference = name.qualified(name.domain or "quay.io")
    except InvalidRequest:
        return

    assert str(name) == text
    assert Reference.parse(str(reference)) == reference
    assert Name.parse(str(reference)).domain == reference.domain


@settings(max_examples=1000, deadline=None)
@given(st.text(max_size=20))
def test_any_text_is_a_name_or_a_request_at_fault(text: str) -> None:
    """N2: no text makes another error than InvalidRequest, and no accepted name holds anything but plain ASCII."""
    try:
        accepted = str(Name.parse(text))
    except InvalidRequest as error:
        said = error.text
    else:
        said = accepted
        assert accepted.isascii()
        assert not accepted.startswith("-")
    assert said.isprintable()


@pytest.mark.parametrize(
    ("registry", "spellings"),
    [
        ("reg.example", ["REG.Example", "reg.example:443", "reg.example:0443", "Reg.example:443"]),
        ("reg.example:5000", ["REG.EXAMPLE:5000", "reg.example:05000"]),
        ("docker.io", ["Docker.IO", "INDEX.docker.io", "registry-1.docker.io", "docker.io:443", "index.docker.io:443"]),
        ("docker.io:5000", ["DOCKER.io:05000"]),
        ("localhost", ["LOCALHOST", "localhost:443"]),
        ("[::1]:5000", ["[0:0:0:0:0:0:0:1]:5000", "[0::1]:05000"]),
        ("[fe80::a]", ["[FE80:0::A]:443", "[fe80::000a]"]),
        ("[1:2]:5000", ["[1:2]:05000"]),
    ],
)
def test_spellings_of_one_registry(registry: str, spellings: list[str]) -> None:
    """Names keep theirs (N1, N2), whoever counts by registry has one for all; and that one stays itself."""
    for spelling in [registry, *spellings]:
        assert registry_host(Name.parse(f"{spelling}/x").domain or "") == registry
    for spelling in spellings:
        assert Name.parse(f"{spelling}/x").domain == spelling


def test_other_registries_are_not_one() -> None:
    """Another port, host or scheme's port is another registry."""
    others = ["a.b", "a.b:80", "a.b:4430", "a.b:5000", "b.b", "127.0.0.1", "[::1]", "[::2]", "x.docker.io", "docker.io"]
    assert [registry_host(other) for other in others] == others
