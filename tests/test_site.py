"""The documentation: built without a warning, then every page opened in a browser as wide as a phone."""

import re
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from tests.chromium import Page, chromium, page

ROOT = Path(__file__).parents[1]
WIDTH = 390  # CSS pixels, of a phone
MOST_BYTES = 3 * 2**20  # the page and all it loads
MATHJAX = "sphinx-mathjax-offline"
MISSING = [name for name in ("sphinx", "furo", "myst_nb", MATHJAX) if find_spec(name) is None]

needs_sphinx = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (extra `docs`)")
needs_browser = pytest.mark.skipif(chromium() is None, reason="no chromium is installed")

# --- what one page is like -----------------------------------------------------------------------------------------

LOOK = """(async () => {
  if (window.MathJax) await MathJax.startup.promise;
  await document.fonts.ready;
  const shown = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode())
    if (!texts.currentNode.parentElement.closest("pre, code, script, style, noscript, mjx-container"))
      shown.push(texts.currentNode.data);
  const fits = e => e.getBoundingClientRect().right <= WIDTH + 1;
  const boxed = e => {  // some box around it scrolls, and fits itself
    for (let box = e; box && box !== document.body; box = box.parentElement)
      if (["auto", "scroll"].includes(getComputedStyle(box).overflowX) && fits(box)) return true;
    return false;
  };
  const wide = [...document.querySelectorAll("article *")].filter(
    e => !fits(e) && !boxed(e) && !e.closest("mjx-assistive-mml"));
  return {
    formulas: [...document.querySelectorAll(".math")].map(e => e.querySelectorAll("mjx-container").length),
    rendered: document.querySelectorAll("mjx-container").length,
    mistakes: [...document.querySelectorAll("mjx-merror")].map(e => e.dataset.mjxError || e.textContent).concat(
      [...document.querySelectorAll("mjx-assistive-mml [mathcolor=red]")].map(e => e.textContent)),  // unknown macros
    text: shown.join(" "),
    images: [...document.images].filter(i => !i.complete || i.naturalWidth === 0).map(i => i.src.slice(0, 200)),
    width: document.scrollingElement.scrollWidth,
    wide: wide.slice(0, 3).map(e => e.tagName.toLowerCase() + "." + e.className + ": " + e.textContent.slice(0, 60)),
    links: [...document.querySelectorAll("a[href]")].map(a => a.href),
    ids: [...document.querySelectorAll("[id]")].map(e => e.id),
  };
})()""".replace("WIDTH", str(WIDTH))

RAW_TEX = re.compile(r"\\\(|\\\[|\$\$|\$\\?[A-Za-z][^$ ]*\$|\\begin\{|Math input error")


class _Formulas(HTMLParser):
    """Counts the elements of class `math` in a file, as Sphinx wrote them."""

    count = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag
        self.count += "math" in (dict(attrs).get("class") or "").split()


def formulas_in(path: Path) -> int:
    counter = _Formulas()
    counter.feed(path.read_text())
    return counter.count


def file_of(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


@dataclass(frozen=True)
class Look:
    """What is wrong with a page, the links on it, and the names that links may lead to."""

    faults: list[str]
    links: list[str]
    ids: set[str]


def look_at(tab: Page, path: Path) -> Look:
    """Open a page, wait for its formulas, and say all that is wrong with it."""
    tab.open(path.as_uri())
    seen = tab.value(LOOK)
    faults = [f"console: {error}" for error in tab.errors]
    stated = formulas_in(path)
    if seen["rendered"] != stated or any(count != 1 for count in seen["formulas"]):
        faults.append(f"formulas: {seen['rendered']} are rendered of {stated}")
    faults += [f"formulas: {mistake}" for mistake in seen["mistakes"]]
    faults += [f"raw TeX: {found[0]}" for found in RAW_TEX.finditer(seen["text"])]
    faults += [f"image is not there: {source}" for source in seen["images"]]
    faults += [f"wider than {WIDTH}: {element}" for element in seen["wide"]]
    if seen["width"] > WIDTH:
        faults.append(f"wider than {WIDTH}: the page, {seen['width']}")
    local = {file_of(url) for url in tab.requested if urlsplit(url).scheme == "file"} | {path}
    size = sum(file.stat().st_size for file in local if file.is_file())
    if size > MOST_BYTES:
        faults.append(f"too large: {size} bytes")
    faults += [
        f"from the network: {url}"
        for url in tab.requested
        if urlsplit(url).scheme not in ("file", "data", "blob")
    ]
    return Look(faults, seen["links"], set(seen["ids"]))


def broken_links(looks: dict[Path, Look]) -> list[str]:
    """Links that lead to no file, to no place in it, or are no addresses."""
    broken: list[str] = []
    for path, look in looks.items():
        for link in look.links:
            address, fragment = urldefrag(link)
            parts, target = urlsplit(address), file_of(address)
            if parts.scheme == "file":
                there = target.is_file() and (
                    not fragment or target not in looks or unquote(fragment) in looks[target].ids
                )
            else:
                there = parts.scheme == "mailto" or (
                    parts.scheme in ("http", "https") and "." in parts.netloc
                )
            if not there:
                broken.append(f"{path.name}: {link}")
    return broken


def unreachable(looks: dict[Path, Look], start: Path) -> set[Path]:
    """Pages to which no way leads from `start`."""
    left, ahead = set(looks), [start]
    while ahead:
        path = ahead.pop()
        if path in left:
            left.remove(path)
            ahead += [file_of(urldefrag(link)[0]) for link in looks[path].links]
    return left


# --- the site ------------------------------------------------------------------------------------------------------


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = (
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(source),
        str(target),
    )
    return subprocess.run(command, capture_output=True, text=True, check=False)


@needs_sphinx
@needs_browser
@pytest.mark.timeout(600)
def test_every_page_of_the_site(tmp_path: Path) -> None:
    """One build, warnings as errors, and one browser for all pages."""
    built = build(ROOT / "docs", tmp_path)
    assert built.returncode == 0, built.stderr
    pages = sorted(path for path in tmp_path.rglob("*.html") if "_static" not in path.parts)
    assert {path.relative_to(tmp_path).with_suffix(".md") for path in pages} >= {
        path.relative_to(ROOT / "docs") for path in (ROOT / "docs").glob("[a-z]*/*.md")
    }
    with page() as tab:
        tab.resize(WIDTH, 844)
        looks = {path: look_at(tab, path) for path in pages}
    faults = [
        f"{path.relative_to(tmp_path)}: {fault}" for path, look in looks.items() for fault in look.faults
    ]
    assert faults + broken_links(looks) == []
    assert unreachable(looks, tmp_path / "index.html") <= {tmp_path / "search.html"}  # reached by its form
    assert sum(formulas_in(path) for path in pages) > 1000  # there was something to look at


# --- negative controls: a page with one thing wrong, and what is said of it -------------------------------------------

SOUND = """<!doctype html><html><head><meta name="viewport" content="width=device-width, initial-scale=1">
<script>window.MathJax = {{"options": {{"enableMenu": false}}}}</script><script defer src="{mathjax}"></script></head>
<body><article><p>In math <span class="math">\\(x^2\\)</span>, in code <code>$x$</code>.</p>
{more}</article></body></html>"""
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
CONTROLS = {
    "console: Error: broken": "<script>throw new Error('broken')</script>",
    "console: said": "<script>console.error('said')</script>",
    "console: Failed to load resource": "<script src='absent.js'></script>",
    "formulas: 1 are rendered of 2": "<span class='math'>never in a delimiter</span>",
    "formulas: Extra \\left": "<span class='math'>\\(\\left( x\\)</span>",
    "formulas: \\nowhere": "<span class='math'>\\(\\nowhere\\)</span>",
    "raw TeX: \\[": "<p class='tex2jax_ignore mathjax_ignore'>\\[x\\]</p>",
    "raw TeX: $$": "<p>$$ x</p>",
    "raw TeX: $x_1$": "<p>$x_1$</p>",
    "image is not there": "<img src='absent.png'>",
    "wider than 390: the page": "<div style='width: 500px'>wide</div>",
    "wider than 390: p.": "<div style='overflow: hidden'><p style='width: 500px'>cut off</p></div>",
    "too large": "<img src='large.svg'>",
    "from the network: http": "<img src='http://tandem.invalid/x.png'>",
}


@pytest.fixture(scope="module")
def tab():
    with page() as opened:
        opened.resize(WIDTH, 844)
        yield opened


def written(path: Path, more: str) -> Path:
    """A page with one formula, and `more`."""
    (static,) = find_spec(MATHJAX).submodule_search_locations
    mathjax = Path(static) / "static" / "mathjax" / "tex-chtml.js"
    path.write_text(SOUND.format(mathjax=mathjax.as_uri(), more=more))
    return path


@needs_sphinx
@needs_browser
def test_a_sound_page_has_no_fault(tab: Page, tmp_path: Path) -> None:
    scrolls = "<div style='overflow-x: auto'><p style='width: 500px'>in a box of its own</p></div>"
    path = written(tmp_path / "sound.html", scrolls + f"<img src='{PIXEL}'>")
    assert look_at(tab, path).faults == []
    assert len(tab.requested) > 3  # the page, MathJax and its fonts


@needs_sphinx
@needs_browser
@pytest.mark.parametrize("fault", CONTROLS)
def test_a_broken_page_is_found_out(tab: Page, tmp_path: Path, fault: str) -> None:
    (tmp_path / "large.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><!--{"x" * MOST_BYTES}--></svg>'
    )
    found = look_at(tab, written(tmp_path / "broken.html", CONTROLS[fault])).faults
    assert any(each.startswith(fault) for each in found), found


def test_links_that_lead_nowhere_are_found_out(tmp_path: Path) -> None:
    here, there, alone = (tmp_path / f"{name}.html" for name in ("here", "there", "alone"))
    for path in (here, there, alone):
        path.touch()
    right = [there.as_uri(), f"{there.as_uri()}#place", "https://example.org/x", f"{here.as_uri()}#"]
    wrong = [f"{there.as_uri()}#nowhere", (tmp_path / "absent.html").as_uri(), "https:///x", "javascript:x"]
    looks = {here: Look([], right, set()), there: Look([], [], {"place"}), alone: Look([], [], set())}
    assert broken_links(looks) == []
    assert unreachable(looks, here) == {alone}
    looks[here] = Look([], right + wrong, set())
    assert broken_links(looks) == [f"here.html: {link}" for link in wrong]


@needs_sphinx
def test_a_page_that_warns_stops_the_build(tmp_path: Path) -> None:
    """The same options on a page with a dead reference."""
    (tmp_path / "conf.py").write_text('extensions = ["myst_nb"]\n')
    (tmp_path / "index.md").write_text("# Title\n\n[nowhere](absent.md)\n")
    assert build(tmp_path, tmp_path / "out").returncode != 0
    (tmp_path / "index.md").write_text("# Title\n")
    assert build(tmp_path, tmp_path / "out").returncode == 0
