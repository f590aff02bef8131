"""The site in a real browser, from files: nothing is loaded from elsewhere, and a keyboard is enough."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fade.reporting.site.render import render_site
from tasks.release.site_folder import write_files
from tests.browser import Browser, browser, executable
from tests.published import grid
from tests.unit.fade.reporting.site.sample import HOSTILE, site, team_site

CHROMIUM = executable()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
PAGES = ("index.html", "requests.html", "champions.html", "versions.html", "releases.html", "audits.html",
         "decisions.html", "lineage.html", "evidence.html", "search.html", "versions/fade-concept-00-1.html",
         "requests/r-000.html")  # fmt: skip
CONTRAST = """
(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const part = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = (c) => 0.2126 * part(c[0]) + 0.7152 * part(c[1]) + 0.0722 * part(c[2]);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const c = rgb(getComputedStyle(node).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
    if (!own || !node.checkVisibility() || node.closest(".hidden, svg, noscript")) continue;
    const [a, b] = [light(rgb(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.push(node.outerHTML.slice(0, 90));
  }
  return bad;
})()
"""
FOCUS = "(document.activeElement.textContent || document.activeElement.id).trim().slice(0, 40)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 versions and 200 requests, and beside them a site of hostile texts."""
    root = tmp_path_factory.mktemp("site")
    write_files(root / "team", render_site(team_site(versions=300, requests=200)))
    for place in ("team", "hostile"):
        grid(root / place / "pictures" / "fade-concept-00-1" / "before-after.png", "panda", columns=12)
        grid(root / place / "pictures" / "fade-panda-1" / "before-after.png", "panda")
    write_files(root / "hostile", render_site(site(" ".join(HOSTILE))))
    return root


@pytest.fixture
def tab(folder: Path) -> Iterator[Browser]:
    assert CHROMIUM is not None
    with browser(CHROMIUM) as opened:
        yield opened
        assert opened.problems == []
        assert [one for one in opened.requests if not one.startswith(f"{folder.as_uri()}/")] == []


def address(folder: Path, name: str) -> str:
    return f"{folder.as_uri()}/team/{name}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_has_contrast_and_no_overflow_on_a_phone(tab: Browser, folder: Path, scheme: str) -> None:
    tab.scheme(scheme)
    for width, height, phone in ((1280, 900, False), (360, 740, True)):
        tab.size(width, height, phone=phone)
        for name in PAGES:
            tab.open(address(folder, name))
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
            assert tab.evaluate(CONTRAST) == [], (name, scheme)
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != (
        "rgb(255, 254, 251)" if scheme == "dark" else "rgb(29, 28, 26)"
    )


def test_hostile_texts_run_nothing_and_break_no_layout(tab: Browser, folder: Path) -> None:
    tab.size(360, 740, phone=True)
    for path in sorted((folder / "hostile").rglob("*.html")):
        tab.open(path.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= 360, path.name
        assert tab.evaluate("document.scripts.length") == 1
        assert tab.evaluate("document.querySelector('h1').checkVisibility()"), path.name


def test_a_table_is_sorted_by_click_and_by_keyboard(tab: Browser, folder: Path) -> None:
    tab.open(address(folder, "versions.html"))
    first = "document.querySelector('#table-versions tbody tr').cells[0].textContent.trim()"
    order = "document.querySelectorAll('#table-versions thead th')[4].getAttribute('aria-sort')"
    tab.evaluate("document.querySelectorAll('#table-versions thead button')[4].focus()")
    tab.press("Enter")
    assert tab.evaluate(order) == "ascending"
    lowest = tab.evaluate(first)
    tab.press("Enter")
    assert tab.evaluate(order) == "descending" and tab.evaluate(first) != lowest
    values = tab.evaluate(
        "[...document.querySelectorAll('#table-versions tbody tr')]"
        ".map(row => Number(row.cells[4].dataset.value))"
    )
    assert values == sorted(values, reverse=True) and len(values) == 300
    tab.evaluate("document.querySelectorAll('#table-versions thead button')[0].click()")
    names = tab.evaluate("[...document.querySelectorAll('#table-versions tbody th')].map(c => c.textContent)")
    assert names[:3] == ["fade-concept-00/1", "fade-concept-00/2", "fade-concept-00/3"]
    assert names.index("fade-concept-00/10") == 9  # as numbers


def test_the_search_finds_a_concept_by_keyboard_alone(tab: Browser, folder: Path) -> None:
    tab.open(address(folder, "requests/r-000.html"))
    order = []
    for _ in range(4):
        tab.press("Tab")
        order.append(tab.evaluate(FOCUS))
    assert order == ["Skip to the content", "fade registry", "find", "Search"]
    outline = "(one => one.outlineStyle + one.outlineWidth)(getComputedStyle(document.activeElement))"
    assert tab.evaluate(outline) == "solid3px"
    tab.press("Tab", shift=True)
    before = tab.loads
    for letter in "concept 07":
        tab.press("Space" if letter == " " else letter)
    tab.press("Enter")
    tab.await_load(before)
    assert tab.evaluate("location.pathname").endswith("/search.html")
    shown = tab.evaluate(
        "[...document.querySelectorAll('#table-search tbody tr')]"
        ".filter(row => !row.hidden).map(row => row.cells[2].textContent)"
    )
    assert shown and set(shown) == {"concept 07"}
    assert tab.evaluate("document.getElementById('count-table-search').textContent") == (
        f"{len(shown)} of 500"
    )
    assert tab.evaluate("document.getElementById('filter-table-search').value") == "concept 07"


def test_a_picture_is_enlarged_and_closed_by_keyboard(tab: Browser, folder: Path) -> None:
    tab.open(address(folder, "versions/fade-concept-00-1.html"))
    tab.evaluate("document.querySelector('a.zoom').focus()")
    tab.press("Enter")
    assert tab.evaluate("document.querySelector('dialog').open")
    assert tab.evaluate("document.querySelector('dialog img').alt") != ""
    assert tab.evaluate(FOCUS) == "Close"
    tab.press("Escape")
    assert not tab.evaluate("document.querySelector('dialog').open")
    assert tab.evaluate("document.activeElement.className") == "zoom"
    tab.press("Enter")
    tab.press("Enter")  # on Close
    assert not tab.evaluate("document.querySelector('dialog').open")


def test_the_theme_is_switched_and_stays_for_the_next_page(tab: Browser, folder: Path) -> None:
    tab.scheme("light")
    tab.open(address(folder, "index.html"))
    paper = "getComputedStyle(document.body).backgroundColor"
    before = tab.evaluate(paper)
    tab.evaluate(
        "(one => { one.value = 'dark'; one.dispatchEvent(new Event('change')); })"
        "(document.getElementById('theme'))"
    )
    dark = tab.evaluate(paper)
    assert dark != before
    tab.open(address(folder, "versions/fade-concept-00-1.html"))
    assert tab.evaluate(paper) == dark and tab.evaluate("document.getElementById('theme').value") == "dark"


def test_control_an_inline_script_is_refused_by_the_policy(tab: Browser, folder: Path) -> None:
    page = folder / "team" / "control.html"
    text = (folder / "team" / "index.html").read_text(encoding="utf-8")
    page.write_text(text.replace("</main>", "<script>window.ran = 1</script></main>"), encoding="utf-8")
    tab.open(page.as_uri())
    assert tab.evaluate("window.ran === undefined")
    assert len(tab.problems) == 1 and "Content Security Policy" in tab.problems.pop()
