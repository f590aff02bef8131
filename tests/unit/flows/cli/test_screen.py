"""A text from outside is shown as it is: it moves no cursor, has no markup, holds no password."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fade.errors import FadeError, UsageError
from fade.utils import progress
from fade.utils.text import visible
from flows.cli import release, screen
from flows.cli.app import _explain, app
from flows.cli.output import emit, show_words
from tests.hostile import HOSTILE, forbidden

ADD = ("requests", "add")
SINKS: dict[str, Callable[[str], object]] = {
    "table title": lambda text: screen.show_rows(text, ["a"], [["b"]]),
    "table head": lambda text: screen.show_rows("t", [text], [["b"]]),
    "table cell": lambda text: screen.show_rows("t", ["a"], [[text]]),
    "table note": lambda text: screen.show_rows("t", ["a"], [["b"]], text),
    "words title": lambda text: show_words(text, ["a"], [["b"]]),
    "words head": lambda text: show_words("t", [text], [["b"]]),
    "words cell": lambda text: show_words("t", ["a"], [[text]], ["bold red"]),
    "tree": lambda text: screen.show_tree(text, {text: [(text, text)]}),
    "note": lambda text: screen.print_note(f"[bold red]x[/] {screen.escape(text)} [dim]y[/]"),
    "markup": lambda text: screen.print_markup(f"[bold]{screen.escape(text)}[/]"),
    "line": lambda text: screen.print_line(f"name  {text}"),
    "error": lambda text: _explain(FadeError(f"unknown concept {text}.", stage="x", action=text)),
    "progress": lambda text: progress.log_lines(sys.stderr)("stage", 1, 2, text),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("sink", SINKS)
def test_a_terminal_shows_a_text_as_it_is(
    sink: str, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20000")  # nothing is folded
    SINKS[sink](text)
    out = "".join(capsys.readouterr())
    assert not forbidden(out) and "\t" not in out
    shown = "".join(visible(text).split())
    assert shown in "".join(out.split())  # brackets, colons and back slashes as well; a title is folded


def test_colours_of_our_own_stay_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    screen.print_note(f"[bold red]error[/] {screen.escape(HOSTILE['ESC'])}")
    err = capsys.readouterr().err
    assert err.startswith("\x1b[1") and err.endswith("merror\x1b[0m pa\\x1b[31mnda\\x1b[2J\n")


def test_no_password_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    secret = "http://ann:hunter2@db/x?sig=hunter2"
    for show in SINKS.values():
        show(secret)
    emit({"url": secret, "all": [secret, {"deep": secret}], "n": 1}, True, print)
    out = "".join(capsys.readouterr())
    assert "hunter2" not in out and '"deep": "http://***@db/x?***"' in out


def test_json_keeps_every_other_text(capsys: pytest.CaptureFixture[str]) -> None:
    result: dict[str, Any] = {"texts": [*HOSTILE.values()], "none": None, "yes": True, "x": 1.5}
    emit(result, True, print)
    assert json.loads(capsys.readouterr().out) == result


def test_a_release_shows_its_parts_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    result = dict.fromkeys(
        ("model", "to", "from", "number", "by", "adapter", "adapter_sha256"), HOSTILE["ESC"]
    )
    release._show_rollback(
        {**result, "parts": [HOSTILE["C1"]], "parts_out": [], "parts_in": [HOSTILE["NEL"]]}
    )
    assert not forbidden(capsys.readouterr().out)


def test_every_command_prints_through_the_screen(repo: Path) -> None:
    """Whatever is not a constant or JSON goes through `flows.cli.screen`, which knows what to hide."""
    for path in sorted((repo / "flows" / "cli").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        for call in calls:
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            where = f"{path.name}:{call.lineno}"
            if path.name not in ("screen.py", "output.py"):
                assert name not in ("Console", "Table", "Tree"), where
                plain = all(
                    isinstance(one, ast.Constant) or "json.dumps" in ast.unparse(one) for one in call.args
                )
                assert name != "print" or plain, where


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["run", "--target", "panda\n"], "holds no \\n"),
        (["run", "--target", "pan\u200bda"], "holds no \\u200b"),
        (["run", "--target", "panda + lemon"], "holds no ' + '"),
        (["run", "--style", "../noto"], "holds no '..'"),
        (["mine", "--target", "base"], "'base' is reserved"),
        (["run", "--replacement", "x" * 201], "at most 200 characters, this one 201"),
        ([*ADD, "--concept", "pan\x9bda", "--reason", "x"], "holds no \\x9b"),
        (
            ["requests", "add", "--concept", "panda", "--reason", "x" * 2001],
            "--reason: at most 2,000 characters",
        ),
        (
            ["requests", "add", "--concept", "panda", "--reason", "x", "--by", "a\nb"],
            "--by: character 2 is \\n",
        ),
        ([*ADD, "--concept", "panda", "--reason", "x", "--by", "a" * 201], "--by: at most 200"),
        (["promote", "fade-panda/1", "--override", " "], "--override is blank"),
        (["promote", "fade-panda/1", "--reason", "a\x1b[2J"], "--reason: character 2 is \\x1b"),
        (["reject", "fade-panda/1", "--reason", "a\ud800"], "--reason: character 2 is \\ud800"),
        (["revoke", "fade-panda/1", "--reason", "\u202ea"], "--reason: character 1 is \\u202e"),
        (["revoke", "fade-panda/1", "--reason", "a", "--by", "\u200b"], "--by: character 1 is \\u200b"),
        (["rollback", "--reason", "x" * 200_000], "--reason: at most 2,000 characters"),
        (["audit", "fade-panda/1", "--by", "a\x85"], "--by: character 2 is \\x85"),
    ],
)
def test_a_name_or_text_that_deceives_is_refused_before_anything_happens(
    arguments: list[str], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        app(arguments, standalone_mode=False)
    assert what in str(caught.value) and len(str(caught.value)) < 400
    assert not [*tmp_path.iterdir()]


def test_who_decides_is_checked_in_the_environment_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FADE_USER", "ann\u202e")
    with pytest.raises(UsageError, match="--by: character 4"):
        app(["reject", "fade-panda/1", "--reason", "x"], standalone_mode=False)
