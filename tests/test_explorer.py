"""The interactive page, opened and moved by its sliders: what it shows is the library's, at every setting drawn.

Numbers are read from the page as a reader does: points of the figures against the labels of their axes, the rest from
the text.  The table is a small one and the site this page alone.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from queueing.models.capacity import Point
from tests.chromium import chromium, page
from validation.explorer import CLASSES, FULL, Grid, Machine, latencies, region, table, write
from validation.plots import COLOURS

DOCS = Path(__file__).parents[1] / "docs"
GRID = Grid(
    machines=("rad", "llama-3-8b/a100"),
    tiles=(64, 128),
    budgets=(64, 192, 512),
    kv_tokens=(8192, 16384, 65536),
    shares=(0.0, 0.5, 1.0),
    loads=(0.3, 0.6, 0.9),
    requests=60,
)
CONF = """
extensions, exclude_patterns = ["myst_nb"], ["_generated"]
html_theme, html_static_path = "furo", ["_static"]
suppress_warnings = ["myst.xref_missing", "toc.not_included"]
"""
DRAWN = 2e-5  # relative: tables keep six digits
TOLD = 6e-4  # four digits in the text; shares have three
PIXEL = 1e-3  # of the width of a bar
needs_browser = pytest.mark.skipif(
    chromium() is None or any(find_spec(name) is None for name in ("sphinx", "furo", "myst_nb")),
    reason="needs chromium and the extra docs",
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The element with the table, as the build of the site writes it."""
    path = tmp_path_factory.mktemp("written") / "_generated" / "explorer.html"
    write(path, GRID)
    return path


@pytest.fixture(scope="module")
def content(written):
    return json.loads(re.search(r"<script[^>]*>(.*)</script>", written.read_text())[1])


@pytest.fixture(scope="module")
def site(written, tmp_path_factory):
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    shutil.copytree(DOCS / "_static", source / "_static")
    shutil.copytree(written.parent, source / "_generated")
    shutil.copy(DOCS / "explorer.md", source)
    (source / "index.md").write_text("# Home\n")
    (source / "conf.py").write_text(CONF)
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", source, built]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return built


@pytest.fixture(scope="module")
def browser():
    with page() as tab:
        tab.resize(1280, 1000)
        yield tab


@pytest.fixture
def tab(browser, site):
    browser.open(f"file://{site}/explorer.html")
    yield browser
    assert browser.errors == []


# --- the table -----------------------------------------------------------------------------------------------------


def lookup(content: dict[str, Any]) -> dict[tuple[str, int | None, int, int], dict[str, Any]]:
    """Settings by machine, tile, budget and KV memory."""
    keys = [
        (key, *rest)
        for key in GRID.machines
        for rest in itertools.product(GRID.tiles_of(key), GRID.budgets, GRID.kv_tokens)
    ]
    return dict(zip(keys, content["settings"], strict=True))


def shrinking(content: dict[str, Any]) -> list[str]:
    """Where the region shrinks with more KV memory, a larger budget, or a tile of half the size."""
    found, settings = [], lookup(content)
    for (small, a), (large, b) in itertools.permutations(settings.items(), 2):
        same = small[0] == large[0]
        finer = small[1] == large[1] or (small[1] is not None and small[1] == 2 * (large[1] or 0))
        if not (same and finer and small[2] <= large[2] and small[3] <= large[3]):
            continue
        found += [
            f"edge from {small} to {large}"
            for x, y in zip(a["edge"], b["edge"], strict=True)
            if x > y * (1 + DRAWN)
        ]
        found += [
            f"corner from {small} to {large}" for c in a["corners"] if not inside(c, b["corners"], 2e-3)
        ]
    return found


def inside(point: list[float], corners: list[list[float]], slack: float) -> bool:
    """Whether a polygon's corners, from the second axis to the first, have the point below them, but for `slack`."""
    x, y = point
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        nx, ny = y0 - y1, x1 - x0
        if nx * x + ny * y > (nx * x0 + ny * y0) * (1 + slack):
            return False
    return x <= corners[-1][0] * (1 + slack) and y <= corners[0][1] * (1 + slack)


def test_more_memory_a_larger_budget_and_finer_tiles_never_shrink_the_region(content):
    assert shrinking(content) == []


@pytest.mark.parametrize("field", ["edge", "corners"])
def test_a_table_that_shrinks_is_caught(content, field):
    wrong = json.loads(json.dumps(content))
    setting = lookup(wrong)["rad", 64, 512, 65536]
    setting[field] = (0.9 * np.array(setting[field])).tolist()
    assert any("(512, 65536)" in line or "512, 65536" in line for line in shrinking(wrong))


def test_the_table_is_taken_up_only_if_it_covers_the_same(written):
    stamp = written.stat().st_mtime_ns
    write(written, GRID)
    assert written.stat().st_mtime_ns == stamp
    written_again = written.with_name("other.html")
    shutil.copy(written, written_again)
    smaller = Grid(("rad",), (128,), (128,), (8192,), (0.5,), (0.5,), 5)
    write(written_again, smaller)
    found = json.loads(re.search(r"<script[^>]*>(.*)</script>", written_again.read_text())[1])
    assert found == json.loads(json.dumps(table(smaller)))


# --- what the page says of the table ---------------------------------------------------------------------------------

ROOFLINE = Machine("mistral-7b/rtx-6000-ada")
SAID = " ".join((DOCS / "explorer.md").read_text().split())


def told(pattern: str) -> list[float]:
    """The numbers that a sentence of the page gives."""
    return [float(text.replace(",", "")) for text in re.search(pattern, SAID).groups()]


def turned(kv_tokens: Any, loads: Any, shares: Any, budgets: Any) -> list[tuple[Any, ...]]:
    """Where the larger of two budgets does not bring the first token earlier and let the request leave later."""
    found: list[tuple[Any, ...]] = []
    for kv, share in itertools.product(kv_tokens, shares):
        edges = [sum(region(ROOFLINE, b, kv).boundary([1 - share, share]).rates) for b in budgets]
        for load in loads:
            timed = [
                latencies(ROOFLINE, b, kv, load * edge, share, FULL.requests)
                for b, edge in zip(budgets, edges, strict=True)
            ]
            for budget, (small, large) in zip(budgets[1:], itertools.pairwise(timed), strict=True):
                if not (large[0] < small[0] and large[1] > small[1]):
                    found.append((kv, share, load, budget))
    return found


def test_a_larger_budget_brings_the_first_token_earlier_where_the_page_says_so():
    """At every setting of the sliders that the sentence covers.  Controls: outside each of its four limits it fails."""
    kv, load, first, last = told(
        r"([\d,]+) tokens of KV memory or more and a load of at most ([\d.]+), "
        r"every step from ([\d,]+) to ([\d,]+) tokens"
    )
    kvs, less = ([m for m in FULL.kv_tokens if (m >= kv) == yes] for yes in (True, False))
    loads, more = ([x for x in FULL.loads if (x <= load) == yes] for yes in (True, False))
    shares = [share for share in FULL.shares if share > 0]
    budgets = [b for b in FULL.budgets if first <= b <= last]
    beyond = [b for b in FULL.budgets if b >= first]
    assert turned(kvs, loads, shares, budgets) == []
    assert turned(less, loads, shares, budgets)
    assert turned(kvs[:1], more, shares, budgets)
    assert turned(kvs[:1], loads, [0.0], budgets)
    assert turned(kvs[:1], loads, shares, beyond)


def carried(tile: int, budget: int, kv: int, share: float) -> Point:
    return region(Machine("rad", tile), budget, kv).boundary([1 - share, share])


@pytest.mark.parametrize("share", FULL.shares)
@pytest.mark.parametrize("kv", FULL.kv_tokens)
def test_what_a_ragged_budget_carries(kv, share):
    """Half a tile takes the share of a whole one that the page gives where tokens bind, and more only by memory."""
    (fraction,) = told(r"one of 64 carries ([\d.]+) of it")
    tokens, seconds, whole, longer = told(r"it, (\d+) tokens in ([\d.]+) ms in place of (\d+) in ([\d.]+)")
    of_batch = region(Machine("rad", 128), 128, kv).program.stairs.seconds
    assert 1e3 * of_batch[int(tokens) - 1] == pytest.approx(seconds)
    assert 1e3 * of_batch[int(whole) - 1] == pytest.approx(longer)
    half, full, ragged = (carried(128, budget, kv, share) for budget in (64, 128, 192))
    ratio = sum(half.rates) / sum(full.rates)
    assert sum(ragged.rates) == pytest.approx(sum(full.rates), rel=DRAWN)
    assert round((tokens / seconds) / (whole / longer), 2) == fraction
    assert (tokens / seconds) / (whole / longer) <= ratio * (1 + DRAWN)
    assert ratio <= 1 + DRAWN
    by_memory = any("memory" in clause for clause in full.binds)
    assert (round(ratio, 2) == fraction) is not by_memory
    if share == 0 and kv == min(FULL.kv_tokens):
        assert ratio == pytest.approx(1, rel=DRAWN)
    fine, large = (sum(carried(64, budget, kv, share).rates) for budget in (64, max(FULL.budgets)))
    assert fine == pytest.approx(large, rel=DRAWN)


# --- reading the page ----------------------------------------------------------------------------------------------

READ = """(() => {
  const all = (s) => [...document.querySelectorAll(`#explorer ${s}`)];
  const number = (e, name) => Number(e.getAttribute(name));
  const axes = (svg) => ({
    x: all(`#explorer-${svg} .tick-x`).map((t) => [number(t, "x"), Number(t.textContent)]),
    y: all(`#explorer-${svg} .tick-y`).map((t, i) =>
      [number(all(`#explorer-${svg} .grid`)[i], "y1"), Number(t.textContent)]),
  });
  const dots = (name) => all(`#explorer-curve .dot.${name}`).map((d) => [number(d, "cx"), number(d, "cy")]);
  const marks = all("#explorer-region .inside").map((d) => [number(d, "cx"), number(d, "cy")]);
  return {
    region: {axes: axes("region"), mark: marks,
      points: all(".region")[0].getAttribute("points").split(" ").map((p) => p.split(",").map(Number))},
    curve: {axes: axes("curve"), ttft: dots("ttft"), e2e: dots("e2e"), edge: number(all(".edge")[0], "x1")},
    batches: all("#explorer-batches li").map((li) => [li.textContent,
      [...li.querySelectorAll(".bar span")].map((s) => s.getBoundingClientRect().width / s.parentNode.clientWidth)]),
    numbers: all("#explorer-numbers tr").map((tr) => [...tr.cells].map((td) => td.textContent)),
    status: document.querySelector("#explorer-status").innerText,
    values: Object.fromEntries(all("output").map((o) => [o.htmlFor.value, o.textContent])),
  };
})()"""


def scale(ticks: list[list[float]], logarithmic: bool = False) -> Any:
    """Value at a place on an axis, by its first and last labels."""
    (p, v), (q, w) = ticks[0], ticks[-1]
    if logarithmic:
        v, w = np.log10([v, w])
    return lambda at: (lambda u: 10**u if logarithmic else u)(v + (at - p) * (w - v) / (q - p))


def number(text: str) -> float:
    return float(text.replace(",", ""))


def choose(tab, **presses: int) -> None:
    """Move sliders by the keyboard: so many steps up from their left ends."""
    for name, times in presses.items():
        tab.value(f"document.querySelector('#explorer-{name}').focus()")
        if name == "machine":
            tab.press("ArrowUp", 5)
            tab.press("ArrowDown", times)
        else:
            tab.press("Home")
            tab.press("ArrowRight", times)


def wrong(tab, machine: int, tile: int, budget: int, kv: int, share: int) -> list[str]:
    """What the page shows otherwise than the library has it, at positions of the sliders."""
    key = GRID.machines[machine]
    made = Machine(key, GRID.tiles_of(key)[tile])
    setting = (made, GRID.budgets[budget], GRID.kv_tokens[kv])
    part = GRID.shares[share]
    seen, capacity = tab.value(READ), region(*setting)
    load = number(seen["values"]["explorer-load"].split()[0])
    member = capacity.membership([load * (1 - part), load * part])
    edge = sum(member.point.rates)
    found: list[str] = []

    def compare(what: str, shown: Any, stated: Any, rtol: float, atol: float = 1e-6) -> None:
        if np.shape(shown) != np.shape(stated) or not np.allclose(shown, stated, rtol, atol):
            found.append(f"{what}: shown {shown}, the library says {stated}")

    axes = seen["region"]["axes"]
    x, y = scale(axes["x"]), scale(axes["y"])
    corners = [p for p in capacity.polytopes(1e-3).vertices.tolist() if max(p) > 0]
    corners.sort(key=lambda c: (c[0], -c[1]))
    compare("region", [[x(a), y(b)] for a, b in seen["region"]["points"]], [[0, 0], *corners], DRAWN)
    if member.inside != bool(seen["region"]["mark"]):
        found.append("the mark is on the wrong side")
    for a, b in seen["region"]["mark"]:
        compare("mark", [x(a), y(b)], [load * (1 - part), load * part], DRAWN)

    spare = re.search(r"([\d.,]+) % (to spare|more than)", seen["status"])
    stated = member.theta - 1 if member.inside else 1 / member.theta - 1
    compare("spare", number(spare[1]) / 100, stated, 6e-3)
    compare("edge in words", number(re.search(r"edge is at ([\d.,]+)", seen["status"])[1]), edge, TOLD)
    if (spare[2] == "to spare") != member.inside:
        found.append("the sentence is on the wrong side")

    axes = seen["curve"]["axes"]
    x, y = scale(axes["x"]), scale(axes["y"], logarithmic=True)
    times = np.array([latencies(*setting, at * edge, part, GRID.requests) for at in GRID.loads])
    rates = [at * edge for at in GRID.loads]
    compare("edge of the curve", x(seen["curve"]["edge"]), edge, DRAWN)
    for k, name in enumerate(("ttft", "e2e")):
        shown = [[x(a), y(b)] for a, b in seen["curve"][name]]
        compare(name, shown, np.column_stack([rates, times[:, k]]), 10 * DRAWN)
    numbers = [[number(cell) for cell in row[1:]] for row in seen["numbers"]]
    compare("table", numbers, np.column_stack([rates, times]), TOLD)

    # the batches shown are optimal if they carry the load at the edge in one second
    stairs, need = capacity.program.stairs, capacity.program.need
    served, seconds = np.zeros(3), edge * float(np.array([1 - part, part]) @ need[:, 2])
    for text, widths in seen["batches"]:
        often = number(re.match(r"([\d.,]+)/s", text)[1])
        parts = [(number(n), kind) for n, kind in re.findall(r"([\d.,]+) (prompt|decodes of \w+)", text)]
        kinds = ["prompt", *(f"decodes of {c.name}" for c in CLASSES)]
        for n, kind in parts:
            served[kinds.index(kind)] += often * n
        tokens = sum(n for n, _ in parts)
        seconds += often * stairs.seconds[round(tokens) - 1]
        compare("bar", widths, [n / GRID.budgets[budget] for n, _ in parts], 0.0, PIXEL)
    asked = edge * np.array(
        [(1 - part) * need[0, 1] + part * need[1, 1], (1 - part) * need[0, 0], part * need[1, 0]]
    )
    compare("served by the batches", served, asked, 2e-3)
    compare("time of the batches", seconds, 1.0, 2e-3)
    return found


# --- the page ------------------------------------------------------------------------------------------------------


@needs_browser
def test_settings_drawn_at_random_show_what_the_library_says(tab):
    rng = np.random.default_rng(20240608)
    for _ in range(6):
        machine, budget, kv, share = (int(rng.integers(n)) for n in (2, 3, 3, 3))
        tile = int(rng.integers(2)) if machine == 0 else 0
        choose(tab, machine=machine, share=share, kv=kv, budget=budget, load=int(rng.integers(5, 60)))
        if machine == 0:
            choose(tab, tile=tile)
        assert wrong(tab, machine, tile, budget, kv, share) == []


@needs_browser
@pytest.mark.parametrize(
    ("slider", "start", "moves"),
    [
        ("tile", {"budget": 0, "kv": 2}, {"region", "curve", "batches", "status"}),
        ("budget", {"kv": 2, "tile": 1}, {"region", "curve", "batches", "status"}),
        ("kv", {"budget": 2}, {"region", "curve", "batches", "status"}),
        ("share", {"budget": 2, "kv": 0}, {"curve", "batches", "status"}),
        ("load", {"budget": 2}, {"status"}),
    ],
)
def test_every_slider_moves_what_depends_on_it_by_mouse_and_by_key(tab, slider, start, moves):
    choose(tab, **start)
    choose(tab, **{slider: 0})
    kept = tab.value(READ)
    tab.press("ArrowRight", 10)
    moved = tab.value(READ)
    assert {
        part for part in ("region", "curve", "batches", "status") if points(kept, part) != points(moved, part)
    } == moves
    tab.click(f"#explorer-{slider}", 0.02)
    assert tab.value(READ)["values"] == kept["values"]


def points(seen: dict[str, Any], part: str) -> Any:
    """What of a part is not the load itself."""
    return {"region": seen["region"]["points"], "curve": seen["curve"]["e2e"]}.get(part, seen.get(part))


@needs_browser
def test_memory_that_grows_takes_in_the_region_before(tab):
    choose(tab, machine=1, budget=2, kv=0)
    polygons = [tab.value(READ)["region"]]
    for _ in GRID.kv_tokens[1:]:
        tab.value("document.querySelector('#explorer-kv').focus()")
        tab.press("ArrowRight")
        polygons.append(tab.value(READ)["region"])
    corners = [
        [[scale(p["axes"]["x"])(a), scale(p["axes"]["y"])(b)] for a, b in p["points"][1:]] for p in polygons
    ]
    for small, large in itertools.pairwise(corners):
        assert all(inside(c, large, 2e-3) for c in small)
        assert not all(inside(c, small, 2e-3) for c in large)  # and the other way round it is not so


SPOILT = {
    "region": lambda s: s["corners"][0].__setitem__(1, s["corners"][0][1] * 1.01),
    "edge of the curve": lambda s: s["edge"].__setitem__(1, s["edge"][1] * 1.01),
    "ttft": lambda s: s["ttft"][1].__setitem__(0, s["ttft"][1][0] * 1.01),
    "e2e": lambda s: s["e2e"][1].__setitem__(2, s["e2e"][1][2] * 1.01),
    "served by the batches": lambda s: s["batches"][1][0].__setitem__(2, s["batches"][1][0][2] + 2.0),
}


@needs_browser
@pytest.mark.parametrize("number", SPOILT)
def test_a_wrong_number_in_the_table_is_caught(browser, site, content, number):
    spoilt = json.loads(json.dumps(content))
    SPOILT[number](lookup(spoilt)["rad", 64, 512, 8192])
    made = (site / "explorer.html").read_text()
    text = re.sub(
        r'(<script type="application/json"[^>]*>).*(?=</script>)',
        lambda m: m[1] + json.dumps(spoilt),
        made,
        count=1,
    )
    (site / "spoilt.html").write_text(text)
    browser.open(f"file://{site}/spoilt.html")
    choose(browser, machine=0, share=1, tile=0, budget=2, kv=0, load=10)
    assert any(line.startswith(number) for line in wrong(browser, 0, 0, 2, 0, 1))


@needs_browser
def test_a_script_that_ignores_a_slider_is_caught(browser, site):
    script = (site / "_static" / "explorer.js").read_text()
    (site / "_static" / "deaf.js").write_text(script.replace("+ at.kv;", "+ 0;"))
    (site / "deaf.html").write_text((site / "explorer.html").read_text().replace("explorer.js", "deaf.js"))
    browser.open(f"file://{site}/deaf.html")
    choose(browser, machine=0, share=1, tile=0, budget=2, load=10, kv=2)
    assert any(line.startswith("region") for line in wrong(browser, 0, 0, 2, 2, 1))


CONTRAST = """((selector) => {
  const weights = [0.2126, 0.7152, 0.0722];
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const luminance = (colour) => colour.match(/[\\d.]+/g).slice(0, 3)
    .map((v, i) => weights[i] * linear(v / 255)).reduce((a, b) => a + b);
  const style = getComputedStyle(document.querySelector(selector));
  const [low, high] = [selector.includes("text") ? style.fill : style.color,
    getComputedStyle(document.body).backgroundColor].map(luminance).sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
})"""


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_can_be_read_at_any_width_and_in_either_theme(browser, site, width, dark):
    browser.resize(width, 900)
    browser.dark(dark)
    browser.open(f"file://{site}/explorer.html")
    try:
        assert browser.value("document.documentElement.scrollWidth") <= width
        for selector in ("#explorer svg text", "#explorer label", "#explorer li"):
            assert browser.value(f"{CONTRAST}({json.dumps(selector)})") >= 4.5
        background = browser.value("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(float, re.findall(r"\d+", background)[:3])) < 384) == dark
        assert browser.errors == []
    finally:
        browser.resize(1280, 1000)
        browser.dark(False)


@needs_browser
def test_controls_are_named_and_nothing_comes_from_elsewhere(tab):
    named = "[...document.querySelectorAll('#explorer input, #explorer select')].map((e) => e.labels.length)"
    assert tab.value(named) == [1] * 6
    assert tab.value("document.querySelector('#explorer-status').getAttribute('aria-live')") == "polite"
    assert any(name.endswith("explorer.js") for name in tab.requested)
    assert all(name.startswith(("file:", "data:")) for name in tab.requested)
    choose(tab, machine=1)
    assert tab.value("document.querySelector('#explorer-tile').disabled")


def test_colours_are_those_of_the_figures():
    used = {
        c.upper()
        for f in (DOCS / "_static").glob("explorer.*")
        for c in re.findall(r"#[0-9a-fA-F]{6}\b", f.read_text())
    }
    assert used
    assert used <= set(COLOURS)
