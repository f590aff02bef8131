"""A command's result: one JSON object, or words."""

from __future__ import annotations

import json

import pytest

from flows.cli.output import emit, show_words


@pytest.mark.parametrize("as_json", [True, False])
def test_a_result_is_json_or_words(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    result, shown = {"parts": ["a"]}, []
    emit(result, as_json, shown.append)
    out = capsys.readouterr().out
    assert (json.loads(out), shown) == (result, []) if as_json else (out, shown) == ("", [result])


def test_a_table_of_words_shows_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    show_words("two rows", ["name", "why"], [["fade-panda/[2]", "[red]"], ["b", ""]], ["bold red", None])
    out = capsys.readouterr().out
    assert "two rows" in out and "fade-panda/[2]" in out and "[red]" in out
