"""The command line's help: every command's text and options, at one width, in plain letters."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest

from flows.cli import app
from tests.support import command_line

FILE = "help.json"
PLAIN = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}
LAYOUT = ("typer", "rich")
"""Libraries that decide how the same words are laid out."""


def present() -> dict[str, Any]:
    """Texts and options of `fade` and of everything below it, by the words of the command."""
    from typer import rich_utils
    from typer.testing import CliRunner

    texts: dict[str, list[str]] = {}
    options: dict[str, list[str]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rich_utils, "MAX_WIDTH", 100)  # read from the environment when it is imported
        patch.setattr(rich_utils, "FORCE_TERMINAL", None)
        todo: list[tuple[tuple[str, ...], Any]] = [((), command_line())]
        while todo:
            words, command = todo.pop(0)
            name = " ".join(("fade", *words))
            done = CliRunner(env=PLAIN).invoke(app, [*words, "--help"], prog_name="fade")
            assert done.exit_code == 0, done.output
            texts[name] = [line.rstrip() for line in done.output.strip().splitlines()]
            options[name] = [_option(one) for one in command.params]
            todo += [((*words, below), one) for below, one in getattr(command, "commands", {}).items()]
    return {"layout": {name: version(name) for name in LAYOUT}, "commands": options, "texts": texts}


def _option(option: Any) -> str:
    """An option's or argument's spellings, whether it is needed or repeated, and its default."""
    facts = [
        "option" if option.opts[0].startswith("-") else "argument",
        "/".join([*option.opts, *option.secondary_opts]),
        *(["required"] if option.required else []),
        *(["multiple"] if option.multiple or option.nargs == -1 else []),
        *([] if option.default is None else [f"default={option.default}"]),
    ]
    return " ".join(facts)


def words(text: list[str]) -> list[str]:
    """The words of a text, without frames and line ends: what stays the same where another version of rich
    lays it out."""
    return " ".join(text).translate({ord(mark): " " for mark in "│╭╮╰╯─"}).split()
