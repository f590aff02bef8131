"""docs/protocols.md has the tables of the protocols (`python -m tests.golden.record protocols` writes
them)."""

from __future__ import annotations

from tests.golden.protocols_page import PAGE, marked, rendered, tables


def test_the_pages_tables_are_those_of_the_protocols() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert rendered(text) == text
    assert sorted(marked(text)) == sorted(tables())


def test_control_a_changed_table_is_noticed() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert rendered(text.replace("| release |", "| paper |", 1)) == text
