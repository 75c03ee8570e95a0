"""Claims: a browser shows every page whole, wide and narrow, light and dark, and its links, menu and search work."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import pytest

from documentation.pages import DOCS
from parts.browser import Page, browser
from parts.missing import lacking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_FAULTS = """(() => {
  const faults = [];
  const style = (one) => getComputedStyle(one);
  if (document.documentElement.scrollWidth > innerWidth) faults.push(`wider than ${innerWidth}`);
  for (const one of document.images)
    if (!one.complete || !one.naturalWidth) faults.push(`no picture: ${one.src}`);

  // What is wider by its nature is moved sideways, inside of something that can be.
  const movable = (one) => one && (["auto", "scroll"].includes(style(one).overflowX) || movable(one.parentElement));
  const shown = [...document.querySelectorAll("main *, article *")].filter((one) =>
    one.getClientRects().length && style(one).visibility != "hidden" && !one.closest("aside, .screen-reader-text"));
  for (const one of shown)
    if (one.getBoundingClientRect().right > innerWidth + 1 && !movable(one.parentElement))
      faults.push(`cut off: ${one.tagName} ${one.textContent.slice(0, 40)}`);

  // WCAG 2, 1.4.3; 3 is for large text, and here for what only has to be told apart, such as comments in code.
  const part = (each) => each / 255 <= 0.04045 ? each / 255 / 12.92 : ((each / 255 + 0.055) / 1.055) ** 2.4;
  const light = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).map((each) => part(Number(each)));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    while (one && /^rgba.*, 0\\)$/.test(style(one).backgroundColor)) one = one.parentElement;
    return one ? style(one).backgroundColor : "rgb(255, 255, 255)";
  };
  const says = (one) => [...one.childNodes].some((node) => node.nodeType == 3 && node.data.trim());
  for (const one of shown.filter((one) => says(one) && style(one).opacity > 0)) {
    const [dark, bright] = [light(style(one).color), light(behind(one))].sort((a, b) => a - b);
    const contrast = (bright + 0.05) / (dark + 0.05);
    if (contrast < 3) faults.push(`contrast ${contrast.toFixed(1)}: ${one.textContent.slice(0, 40)}`);
  }
  return faults;
})()"""

_LINKS = "[...document.links].map((one) => one.href).filter((each) => each.startsWith('file:'))"
_ANCHORS = "[...document.querySelectorAll('[id], a[name]')].map((one) => one.id || one.name)"
_MENU_SHOWN = "document.querySelector('.sidebar-tree').getBoundingClientRect().right > 0"
_FOUND = "[...document.querySelectorAll('#search-results li a')].map((one) => one.href.split(/[?#]/)[0])"
_SEARCHED = "/found|match/.test(document.querySelector('#search-results .search-summary')?.textContent)"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, built anew."""
    if find_spec("sphinx") is None:
        lacking("not installed: sphinx (the dependency group docs)")
    folder = tmp_path_factory.mktemp("built")
    subprocess.run([sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(DOCS), str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """One browser for all of them."""
    with browser() as one:
        yield one


def until(condition: str) -> str:
    """An expression that is there once a condition holds: what moves or is looked up takes its time."""
    return f"new Promise((done) => {{ const look = () => {condition} ? done() : setTimeout(look, 20); look(); }})"


@pytest.mark.long
@pytest.mark.timeout(900)
class TestInABrowser:
    """The built pages in Chromium."""

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [1400, 390])
    def test_every_page_is_whole(
        self,
        built: Path,
        page: Page,
        long_run: Callable[[str, str], None],
        width: int,
        scheme: Literal["light", "dark"],
    ) -> None:
        """None wider than its window, nothing cut off, no text like what is behind it, no error in the console."""
        page.look(width, 900, scheme)
        faults = {}
        dark = set()
        for file in built.rglob("*.html"):
            page.goto(file.as_uri())
            faults[str(file.relative_to(built))] = [*page.evaluate(_FAULTS), *page.complaints]
            dark.add(page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches"))
        assert len(faults) > 40
        assert {name: found for name, found in faults.items() if found} == {}
        assert dark == {scheme == "dark"}
        long_run(page.version, f"{len(faults)} pages, no fault")

    def test_every_link_ends_somewhere(self, built: Path, page: Page, long_run: Callable[[str, str], None]) -> None:
        """As the browser reads them, with those that scripts have made."""
        links: list[tuple[str, str]] = []
        anchors: dict[str, list[str]] = {}
        for file in built.rglob("*.html"):
            page.goto(file.as_uri())
            links += [(file.name, link) for link in page.evaluate(_LINKS)]
            anchors[file.as_uri()] = ["", *page.evaluate(_ANCHORS)]
        files = {file.as_uri() for file in built.rglob("*") if file.is_file()}
        dead = []
        for name, link in links:
            target, _, fragment = link.partition("#")
            if target not in files or fragment not in anchors.get(target, [fragment]):
                dead.append((name, link))
        assert len(links) > 1000
        assert dead == []
        long_run(page.version, f"{len(links)} links, none dead")

    def test_a_small_screen_has_the_menu(self, built: Path, page: Page) -> None:
        """It is away until it is asked for."""
        page.look(390, 800, "light")
        page.goto((built / "index.html").as_uri())
        assert not page.evaluate(_MENU_SHOWN)
        page.evaluate("document.querySelector('label[for=__navigation]').click()")
        page.evaluate(until(_MENU_SHOWN))

    @pytest.mark.parametrize(
        ("words", "found"),
        [("mirror", "guide/mirrors"), ("PullProgress", "reference/api"), ("restarted", "guide/troubleshooting")],
    )
    def test_the_search_finds_pages(self, built: Path, page: Page, words: str, found: str) -> None:
        """By a word of a title, by a name of the API, by a word of a text."""
        page.look(1400, 900, "light")
        page.goto(f"{(built / 'search.html').as_uri()}?q={words}")
        page.evaluate(until(_SEARCHED))
        assert (built / f"{found}.html").as_uri() in page.evaluate(_FOUND)
        assert page.complaints == []

    def test_what_is_looked_for_is_seen(self, tmp_path: Path, page: Page) -> None:
        """A page with every fault has each of them told, and what can be moved sideways is none."""
        file = tmp_path / "faulty.html"
        file.write_text("""<!doctype html><body><main>
<div style="width: 500px">wide</div><img src="gone.png"><p style="color: #888; background: #999">grey</p>
<div style="overflow-x: auto"><div style="width: 900px">fine</div></div></main>
<script>console.error("told"); nothing.at.all</script>""")
        page.look(390, 800, "light")
        page.goto(file.as_uri())

        faults = "\n".join(page.evaluate(_FAULTS))

        for fault in ("wider than 390", "cut off: DIV wide", "no picture", "contrast 1.2: grey"):
            assert fault in faults
        assert "fine" not in faults
        for complaint in ("told", "nothing is not defined", "not fetched"):
            assert complaint in "\n".join(page.complaints)
