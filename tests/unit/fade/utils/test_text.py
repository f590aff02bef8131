"""Free text: what may be stored, and how it is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fade.errors import UsageError
from fade.utils.text import LONGEST, checked_text, free_text, is_invisible, markdown_table, visible
from tests.hostile import FORBIDDEN, HOSTILE, forbidden


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_nothing_invisible_is_shown_raw(text: str) -> None:
    assert not forbidden(visible(text), lines=False)
    assert not forbidden(visible(text, lines=True)) and visible(text, lines=True).count("\n") == text.count(
        "\n"
    )


def test_every_forbidden_sign_counts_as_invisible() -> None:
    assert all(map(is_invisible, FORBIDDEN))


@given(st.text(st.characters(codec=None)))
def test_a_shown_text_has_no_invisible_sign_and_the_rest_is_as_it_was(text: str) -> None:
    shown = visible(text)
    assert not any(map(is_invisible, shown)) and visible(shown) == shown
    if not any(map(is_invisible, text)):
        assert shown == text


@pytest.mark.parametrize(
    "text",
    [
        "licence ended",
        "été, für immer, パンダ",
        "line one\nline two\tx",
        "❤\ufe0f and 👩\u200d🔬",
        "x" * LONGEST,
    ],
)
def test_a_plain_text_is_stored_as_it_is(text: str) -> None:
    assert free_text(f"  {text}\n") == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x" * (LONGEST + 1), r"reason: at most 2,000 characters are allowed, these are 2,001"),
        ("x" * 200_000, r"these are 200,000"),
        ("a\ud800", r"reason: character 2 is \\ud800, which is invisible or a control character"),
        ("a\x1b[2J", r"character 2 is \\x1b"),
        ("a\u202eb", r"character 2 is \\u202e"),
        (" ", r"reason is blank"),
        ("\n\t", r"reason is blank"),
    ],
)
def test_another_text_is_refused_with_field_and_limit(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        checked_text("reason", text, stage="decide")
    assert str(caught.value).startswith("decide: ") and len(str(caught.value)) < 200
    assert checked_text("reason", "", stage="decide") == ""


def test_a_table_in_markdown_sets_numbers_to_the_right() -> None:
    rows = [["a", "1"], ["b", "2"]]
    assert markdown_table(["name", "n"], rows) == ["| name | n |", "|---|--:|", "| a | 1 |", "| b | 2 |"]
    assert markdown_table(["x", "n", "y"], [], (0, 2)) == ["| x | n | y |", "|---|--:|---|"]
