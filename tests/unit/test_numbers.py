"""A number on a page is the record's: in a block, in a sentence, and none in the README without one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[2]
PAGES = sorted([REPO / "README.md", *(REPO / "docs").glob("*.md")])


@pytest.fixture(scope="module")
def bench() -> Any:
    """The scripts that write the pages."""
    sys.path.insert(0, str(REPO / "bench"))
    try:
        import pages
        import tables
    finally:
        sys.path.remove(str(REPO / "bench"))
    return SimpleNamespace(pages=pages, tables=tables)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_says_what_the_record_says(bench: Any, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert bench.pages.filled(text) == text
    for command, block in bench.tables.blocks_of(page.relative_to(REPO)):
        assert bench.pages.with_block(text, command, block) == text, command


def test_the_results_are_those_of_the_record(bench: Any) -> None:
    assert (REPO / "docs" / "results.md").read_text(encoding="utf-8") == bench.tables.results_page()


def test_every_measurement_of_the_readme_names_its_record(bench: Any) -> None:
    text = (REPO / "README.md").read_text(encoding="utf-8")
    assert bench.pages.unnamed(text) == []
    assert len(bench.pages.NUMBER.findall(text)) > 10  # the control: there are some


def test_control_a_wrong_number_a_wrong_place_and_a_number_without_a_record_are_noticed(bench: Any) -> None:
    place = "<!-- world: base.mean_top1; .1f -->"
    right = bench.pages.filled(f"It draws 12.3{place} % of them.")
    assert right != f"It draws 12.3{place} % of them." and bench.pages.filled(right) == right
    with pytest.raises(KeyError):
        bench.pages.filled("1<!-- world: base.nothing; d -->")
    with pytest.raises(ValueError, match="has no block"):
        bench.pages.with_block("no block", "make run", "")
    sentence = "Of 24 pictures 97.5 % go in 12 min 26 s (ERR 0.938), as `x 5 %` and SD 1.5 do."
    assert len(bench.pages.unnamed(sentence)) == 3 and bench.pages.unnamed(right) == []


@pytest.mark.parametrize(
    ("number", "spec", "text"), [(529, "time", "8 min 49 s"), (0.9304, ".3f", "0.930"), (27, "d", "27")]
)
def test_formats(bench: Any, number: float, spec: str, text: str) -> None:
    assert bench.pages.shown(number, spec) == text
