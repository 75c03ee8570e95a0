"""What short names mean: registries.conf, aliases and modes."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from pathlib import Path

import pytest

from containers_storage.opened import until
from criimage.errors import ConfigurationError, InvalidRequest
from criimage.reference import Name, Reference
from criimage_containers_storage.config_files import ConfigFiles
from criimage_containers_storage.registries.current import CurrentRegistries
from criimage_containers_storage.registries.names import Resolver, candidates
from criimage_containers_storage.registries.registries_conf import Registries
from criimage_containers_storage.registries.registries_conf import read_registries as read_files

DIGEST = "sha256:" + "a" * 64


def test_a_host_of_capital_letters_is_none_here() -> None:
    """N1, N2: what is a registry to docker is a repository in upper case to this store's tools."""
    with pytest.raises(InvalidRequest, match="must be lowercase"):
        candidates(Name.parse("MYREG/app:1"), Registries())


def files(folder: Path, main: str = "", aliases: str = "", **drop_ins: str) -> ConfigFiles:
    """Configuration files in a folder; a drop-in's name is its file's."""
    (folder / "registries.conf").write_text(main)
    (folder / "aliases.conf").write_text(aliases)
    (folder / "d").mkdir(exist_ok=True)
    for name, text in drop_ins.items():
        (folder / "d" / f"{name}.conf").write_text(text)
    return ConfigFiles((folder / "registries.conf",), (folder / "d",), chosen=True)


def read_registries(where: ConfigFiles) -> Registries:
    """What such files say, those with the people's own aliases included."""
    return read_files(where, where.main.parent / "aliases.conf")


class Trusting:
    """Finds nothing wrong with any file."""

    def verdict(self, files: ConfigFiles, main: Path | None) -> str:
        """Says so."""
        return ""


@pytest.mark.parametrize(
    ("name", "search", "expected"),
    [
        ("busybox", ["quay.io", "docker.io"], ["quay.io/busybox:latest", "docker.io/library/busybox:latest"]),
        ("foo/bar:1", ["docker.io"], ["docker.io/foo/bar:1"]),
        ("localhost/x", ["quay.io"], ["localhost/x:latest"]),
        ("localhost", ["quay.io"], ["quay.io/localhost:latest"]),
        ("h:5000", ["quay.io"], ["quay.io/h:5000"]),
        ("docker.io/busybox", ["quay.io"], ["docker.io/library/busybox:latest"]),
        ("index.docker.io/a/b", [], ["docker.io/a/b:latest"]),
        (f"image:t@{DIGEST}", ["q.io", "docker.io"], [f"q.io/image@{DIGEST}", f"docker.io/library/image@{DIGEST}"]),
        ("x", ["docker.io", "index.docker.io", "quay.io"], ["docker.io/library/x:latest", "quay.io/x:latest"]),
        ("x", ["quay.io/mirror"], ["quay.io/mirror/x:latest"]),  # older tools took a path here
    ],
)
def test_search_registries_in_order(name: str, search: list[str], expected: list[str]) -> None:
    """A short name has one candidate per search registry, in order, without duplicates (N8, N13)."""
    found = candidates(Name.parse(name), Registries(search=tuple(search)))
    assert [str(reference) for reference in found] == expected


@pytest.mark.parametrize(("pulling", "purpose"), [(True, "while trying to pull"), (False, "for")])
def test_no_search_registry_is_told_in_both_generations_words(*, pulling: bool, purpose: str) -> None:
    """Clients know the old phrase, people the new one (N9); a pull is mentioned only where something is pulled."""
    with pytest.raises(InvalidRequest) as caught:
        candidates(Name.parse("busybox"), Registries(source="/etc/r.conf"), pulling=pulling)
    assert f"no registries configured {purpose} an unqualified image: " in caught.value.text
    assert 'short-name "busybox" did not resolve to an alias' in caught.value.text
    assert "/etc/r.conf" in caught.value.text


@pytest.mark.parametrize(("own", "configured"), [("enforcing", ""), ("", "enforcing"), ("enforcing", "disabled")])
def test_enforcing_refuses_several(own: str, configured: str) -> None:
    """Enforcing takes one registry or an alias, not a choice; our key overrides the file's (N11)."""
    registries = Registries(search=("a.io", "b.io"), mode=configured, aliases={"known": "c.io/known"})
    with pytest.raises(InvalidRequest, match="short name mode is enforcing, but image name"):
        candidates(Name.parse("x"), registries, own)
    assert str(candidates(Name.parse("known:1"), registries, own)[0]) == "c.io/known:1"
    assert len(candidates(Name.parse("x"), Registries(search=("a.io",)), "enforcing")) == 1


@pytest.mark.parametrize(("own", "configured"), [("", ""), ("permissive", "enforcing"), ("disabled", "enforcing")])
def test_the_other_modes_try_all(own: str, configured: str) -> None:
    """Without a terminal permissive and disabled are the same: all in order (N11)."""
    assert len(candidates(Name.parse("x"), Registries(search=("a.io", "b.io"), mode=configured), own)) == 2


def test_aliases(tmp_path: Path) -> None:
    """An alias is the only candidate, keeps tag and digest; the people's own file wins, an empty one cancels (N10)."""
    registries = read_registries(
        files(
            tmp_path,
            'unqualified-search-registries = ["q.io"]\n'
            '[aliases]\nalpine = "docker.io/library/alpine"\ngone = "x.io/g"\n',
            aliases='[aliases]\nmine = "docker.io/mine"\n"open/leap" = "r.io/leap"\n',
            a='[aliases]\ngone = ""\nmine = "y.io/other"\n',
        )
    )
    vectors = {
        "alpine": "docker.io/library/alpine:latest",
        "alpine:3": "docker.io/library/alpine:3",
        f"alpine:3@{DIGEST}": f"docker.io/library/alpine@{DIGEST}",
        "mine": "docker.io/library/mine:latest",
        "open/leap": "r.io/leap:latest",
        "gone": "q.io/gone:latest",
        "other/alpine": "q.io/other/alpine:latest",
    }
    found = {name: [str(one) for one in candidates(Name.parse(name), registries)] for name in vectors}
    assert found == {name: [target] for name, target in vectors.items()}


def test_drop_ins_replace_and_merge(tmp_path: Path) -> None:
    """Drop-ins in lexical order replace lists and tables of equal prefix, and merge aliases (C2)."""
    registries = read_registries(
        files(
            tmp_path,
            'unqualified-search-registries = ["a.io"]\nshort-name-mode = "enforcing"\n'
            '[[registry]]\nlocation = "r.io"\n[[registry]]\nlocation = "s.io"\nblocked = true\n',
            b='unqualified-search-registries = ["b.io"]\n[[registry]]\nlocation = "s.io"\n',
            a='unqualified-search-registries = ["c.io"]\nshort-name-mode = "disabled"\n',
        )
    )
    assert registries.search == ("b.io",)
    assert registries.mode == "disabled"
    assert {one.prefix: one.blocked for one in registries.registries} == {"r.io": False, "s.io": False}


def test_the_first_format_of_the_file(tmp_path: Path) -> None:
    """Tables registries.search, insecure and block are read in the main file (C2)."""
    registries = read_registries(
        files(tmp_path, '[registries.search]\nregistries = ["a.io"]\n[registries.block]\nregistries = ["bad.io"]\n')
    )
    assert registries.search == ("a.io",)
    found = registries.find(Reference.parse("bad.io/x"))
    assert found is not None
    assert found.blocked


@pytest.mark.parametrize(
    ("prefix", "name", "covered"),
    [
        ("a.io", "a.io/x:1", True),
        ("a.io", "a.io:5000/x:1", True),
        ("a.io", "a.ioo/x:1", False),
        ("a.io/x", "a.io/x:1", True),
        ("a.io/x", "a.io/x/y:1", True),
        ("a.io/x", "a.io/xy:1", False),
        ("a.io/x", f"a.io/x@{DIGEST}", True),
        ("*.io", "a.io/x:1", True),
        ("*.b.io", "a.b.io:5000/x:1", True),
        ("*.io", "a.org/x.io:1", False),
    ],
)
def test_prefixes_end_at_a_boundary(prefix: str, name: str, covered: bool) -> None:
    """A prefix covers whole parts of a name only, a host all its ports; a wildcard covers subdomains (C3, T18)."""
    registries = read_registries_text(f'[[registry]]\nprefix = "{prefix}"\nlocation = "z.io"\n')
    assert (registries.find(Reference.parse(name)) is not None) is covered


def read_registries_text(text: str) -> Registries:
    """Registries of one text."""
    with tempfile.TemporaryDirectory() as folder:
        return read_registries(files(Path(folder), text))


def test_endpoints_mirrors_first() -> None:
    """Mirrors in order, the rewritten registry last; a mirror may be for digests or tags only (C3, C4)."""
    registries = read_registries_text(
        '[[registry]]\nprefix = "a.io/x"\nlocation = "b.io/y"\n'
        '[[registry.mirror]]\nlocation = "m.io/z"\n'
        '[[registry.mirror]]\nlocation = "d.io"\npull-from-mirror = "digest-only"\n'
    )
    assert registries.endpoints(Reference.parse("a.io/x/img:1")) == ["m.io/z/img", "b.io/y/img"]
    assert registries.endpoints(Reference.parse(f"a.io/x/img@{DIGEST}")) == ["m.io/z/img", "d.io/img", "b.io/y/img"]
    assert registries.endpoints(Reference.parse("c.io/img:1")) == ["c.io/img"]


def test_the_longest_text_wins_and_of_equal_ones_the_first() -> None:
    """A prefix counts by the length of its text, a wildcard's too; twice in one file the first table counts (C3)."""
    registries = read_registries_text(
        '[[registry]]\nprefix = "*.example.com"\nlocation = "wild.io"\n'
        '[[registry]]\nprefix = "good.example.com"\nlocation = "good.io"\n'
        '[[registry]]\nprefix = "good.example.com"\nlocation = "second.io"\n'
    )
    assert registries.endpoints(Reference.parse("good.example.com/x:1")) == ["good.io/x"]
    assert registries.endpoints(Reference.parse("other.example.com/x:1")) == ["wild.io/x"]


def test_an_empty_list_in_a_drop_in_clears(tmp_path: Path) -> None:
    """A list of nothing says something, another file that says nothing does not (C2)."""
    main = 'unqualified-search-registries = ["a.io"]\ncredential-helpers = ["pass"]\n'
    assert read_registries(files(tmp_path, main, a="")).search == ("a.io",)
    cleared = read_registries(files(tmp_path, main, b="unqualified-search-registries = []\ncredential-helpers = []\n"))
    assert (cleared.search, cleared.helpers) == ((), ())


def test_keys_in_other_cases_count() -> None:
    """Go's reader finds a key in any case, the very one first (C2)."""
    registries = read_registries_text(
        'Unqualified-Search-Registries = ["a.io"]\n[[Registry]]\nLOCATION = "b.io"\nBlocked = true\n'
    )
    assert registries.search == ("a.io",)
    assert registries.registries[0].blocked


def test_torn_aliases_stop_short_names_alone(tmp_path: Path) -> None:
    """Skopeo does not look at that file, so full names go on; a short one might mean another than its owner chose."""
    torn = read_registries(files(tmp_path, 'unqualified-search-registries = ["a.io"]\n', aliases='[aliases]\nx = "'))
    assert str(candidates(Name.parse("b.io/x"), torn)[0]) == "b.io/x:latest"
    with pytest.raises(ConfigurationError, match=r"aliases\.conf"):
        candidates(Name.parse("x"), torn)


@pytest.mark.parametrize("alias", ["x", "y", "a.io/b:1", "a.io/B", "://", f"a.io/b@sha256:{'0' * 64}"])
def test_an_alias_that_leads_to_no_repository_is_told(alias: str) -> None:
    """It is the file's fault and not the caller's; one that leads to itself ends too (N10)."""
    registries = Registries(source="/etc/r.conf", search=("a.io",), aliases={"x": alias, "y": "x"})
    with pytest.raises(ConfigurationError, match=r'/etc/r\.conf: alias "x" does not lead to a repository'):
        candidates(Name.parse("x:2"), registries)


def test_a_search_registry_without_a_dot_is_told() -> None:
    """Skopeo takes the file; the tools would then ask docker.io for it, which nobody meant (N1)."""
    with pytest.raises(ConfigurationError, match="nodot"):
        candidates(Name.parse("x"), Registries(search=("a.io", "nodot")))


async def test_a_changed_file_counts_at_the_next_name(tmp_path: Path) -> None:
    """The configuration is the one on disk at the time of the call, drop-ins that appear included (C2)."""
    current = files(tmp_path, 'unqualified-search-registries = ["a.io"]')
    resolver = Resolver(CurrentRegistries(lambda: current, tmp_path / "aliases.conf", tmp_path, Trusting()), "")
    assert str((await resolver.resolve(Name.parse("x")))[0]) == "a.io/x:latest"
    files(tmp_path, 'unqualified-search-registries = ["a.io"]', z='unqualified-search-registries = ["zz.io"]')
    assert str((await resolver.resolve(Name.parse("x")))[0]) == "zz.io/x:latest"


async def test_files_that_hang_keep_one_thread(tmp_path: Path) -> None:
    """Whoever asks for a short name can leave, and however many do, one thread waits for a file system that is gone."""
    asked, back = 0, threading.Event()
    current = files(tmp_path, 'unqualified-search-registries = ["a.io"]')

    def find() -> ConfigFiles:
        nonlocal asked
        asked += 1
        back.wait(60)
        return current

    resolver = Resolver(CurrentRegistries(find, tmp_path / "aliases.conf", tmp_path, Trusting()), "")
    asking = [asyncio.create_task(resolver.resolve(Name.parse("x"))) for _ in range(50)]
    await asyncio.to_thread(until, lambda: asked)
    try:
        for one in asking:
            one.cancel()
        done, _ = await asyncio.wait(asking, timeout=30)
        assert len(done) == len(asking)
        assert asked == 1
        again = asyncio.create_task(resolver.resolve(Name.parse("x")))
    finally:
        back.set()
    assert str((await again)[0]) == "a.io/x:latest"
