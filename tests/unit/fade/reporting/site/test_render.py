"""The site's pages: every text escaped, every link leads to a page, the same data gives the same bytes."""

from __future__ import annotations

import json
import posixpath
import re
from html.parser import HTMLParser

import pytest

from fade.reporting.site.data import file_name
from fade.reporting.site.render import render_site, state_class, visible
from fade.reporting.theme import DARK, LIGHT, Theme
from tests.unit.fade.reporting.site.sample import HOSTILE, site

KNOWN_TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "link",
        "script",
        "body",
        "a",
        "header",
        "div",
        "form",
        "label",
        "input",
    ),
    *(
        "button",
        "select",
        "option",
        "nav",
        "ul",
        "li",
        "main",
        "footer",
        "p",
        "code",
        "h1",
        "h2",
        "span",
        "time",
    ),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "b", "dl", "dt", "dd", "output", "noscript"),
    *("figure", "figcaption", "img", "svg", "path", "g", "rect", "text", "pre"),
}


class Page(HTMLParser):
    """Tags, attributes and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.labelled: set[str] = set()
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("href", "src", "action"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name == "for" and tag == "label":
                self.labelled.add(value or "")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("text", HOSTILE, ids=[repr(text)[:24] for text in HOSTILE])
def test_a_hostile_text_is_text_on_every_page(text: str) -> None:
    plain = render_site(site())
    for name, page in render_site(site(text)).items():
        if name.endswith(".html"):
            parsed = Page(page)
            assert set(parsed.tags) <= KNOWN_TAGS and parsed.tags.count("script") == 1, name
            assert not [one for one in parsed.attributes if one.startswith("on") or one == "style"], name
            assert parsed.tags.count("img") == parsed.tags.count("figure"), name
            assert not [link for link in parsed.links if ":" in link], name
    assert sum("alert" in name or "script" in name for name in plain) == 0


def test_the_text_itself_is_shown_and_what_shows_nothing_by_its_number() -> None:
    pages = render_site(site(HOSTILE[0]))
    words = " ".join(Page(pages["versions/fade-panda-1.html"]).text)
    assert HOSTILE[0] in words
    pages = render_site(site(HOSTILE[6]))
    for name, page in pages.items():
        if name.endswith(".html"):
            assert not set(page) & set("\u202e\u2066\u0000\x1b\u009b\u200b"), name
    assert r"safe\u202e\u2066gnp.exe\u0000\u001b[31m" in pages["index.html"]


def test_visible_leaves_other_texts_alone() -> None:
    assert visible("Grinning cat\n\u00e9\u718a\U0001f43c") == "Grinning cat\n\u00e9\u718a\U0001f43c"
    assert visible(3) == 3 and visible(None) is None


def destinations(name: str, page: Page) -> set[str]:
    """The files that a page's links lead to, from the site's folder."""
    paths = {link.split("#")[0] for link in page.links} - {""}
    return {posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) for path in paths}


def test_every_link_leads_to_a_file_of_the_site_and_ids_are_unique() -> None:
    data = site()
    pages = render_site(data)
    others = {*data.versions[0].pictures, *data.evidence}
    for name, page in pages.items():
        if not name.endswith(".html"):
            continue
        parsed = Page(page)
        targets = destinations(name, parsed)
        assert targets <= {*pages, *others}, name
        assert len(parsed.ids) == len(set(parsed.ids)), name
        fields = {one for one in parsed.ids if one.startswith(("filter-", "find"))}
        assert fields <= parsed.labelled, name
        assert parsed.tags.count("h1") == 1 and parsed.tags.count("main") == 1
    reached = {"index.html"}
    todo = ["index.html"]
    while todo:
        here = todo.pop()
        fresh = {one for one in destinations(here, Page(pages[here])) if one.endswith(".html")} - reached
        reached |= fresh
        todo += fresh
    assert reached == {name for name in pages if name.endswith(".html")}


def test_the_policy_allows_scripts_and_styles_of_files_alone() -> None:
    for name, page in render_site(site()).items():
        if name.endswith(".html"):
            (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
            assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
            assert page.index("Content-Security-Policy") < page.index("<script"), name
            assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=", page), name


def test_the_same_data_gives_the_same_bytes_and_the_time_is_on_one_page() -> None:
    first, second = render_site(site()), render_site(site(made_at="2027-01-01T00:00:00+00:00"))
    assert first == render_site(site())
    assert [name for name in first if first[name] != second[name]] == ["index.html"]


def test_data_json_holds_the_rows_and_no_record() -> None:
    content = json.loads(site().to_json())
    assert content["versions"][0]["decisions"][0]["by"] == "panda"
    assert "records" not in content and "made_at" not in content


def test_what_needs_somebody_is_on_the_first_page() -> None:
    page = " ".join(Page(render_site(site())["index.html"]).text)
    for words in ("overdue", "unreadable records", "versions whose last audit failed", "panda-1"):
        assert words in page


@pytest.mark.parametrize("word", ["champion", "done", "evidence holds"])
def test_a_good_state_is_green(word: str) -> None:
    assert state_class(word) == "good" and state_class("revoked") == "bad" and state_class("open") == "mixed"


def test_file_names_are_plain_and_of_one_label_each() -> None:
    labels = [
        "fade-panda/1",
        "Fade-panda/1",
        "fade-panda/1/2",
        "../x/1",
        "a b/1",
        "\u718a/1",
        "x" * 300 + "/1",
    ]
    names = [file_name(label) for label in labels]
    assert names[0] == "fade-panda-1"
    assert len({name.lower() for name in names}) == len(labels)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,99}", name) and ".." not in name for name in names)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("paper", ["paper", "panel"])
def test_words_have_the_contrast_of_wcag_aa(theme: Theme, paper: str) -> None:
    for name in ("ink", "muted", "adjacent", "good", "mixed", "bad"):
        light, dark = sorted((luminance(getattr(theme, one)) for one in (name, paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, paper)
