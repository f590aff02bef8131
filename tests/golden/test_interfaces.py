"""The command line's help, exit codes and parameters are those of the golden files."""

from __future__ import annotations

import pytest

from tests.golden import commands, interfaces, machine

HELP = machine.read(commands.FILE)
INTERFACES = machine.read(interfaces.FILE)


@pytest.fixture(scope="module")
def present() -> dict[str, dict[str, list[str]]]:
    return commands.present()


def test_the_commands_and_their_options_are_those_of_the_golden_file(
    present: dict[str, dict[str, list[str]]],
) -> None:
    assert present["commands"] == HELP["commands"]


@pytest.mark.parametrize("command", HELP["texts"])
def test_the_help_is_that_of_the_golden_file(present: dict[str, dict[str, list[str]]], command: str) -> None:
    """Line by line; word by word where another version of typer or rich lays the text out."""
    expected, actual = HELP["texts"][command], present["texts"][command]
    assert commands.words(actual) == commands.words(expected)
    if present["layout"] == HELP["layout"]:
        assert actual == expected


def test_the_exit_codes_are_those_of_the_golden_file() -> None:
    assert interfaces.exit_codes() == INTERFACES["exit_codes"]


def test_the_parameters_and_their_defaults_are_those_of_the_golden_file() -> None:
    assert interfaces.parameters() == INTERFACES["parameters"]
