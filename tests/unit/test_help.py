"""`fade --help` pulls nothing heavy, and every command explains itself (how fast that is, bench/startup.py
measures)."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from tests.support import command_line

HEAVY = (
    "torch",
    "mlflow",
    "prefect",
    "pandas",
    "numpy",
    "diffusers",
    "transformers",
    "dvc",
    "great_expectations",
    "matplotlib",
    "scipy",
)
PROBE = "import json, sys; {0}; print(json.dumps([name for name in {1!r} if name in sys.modules]))"


def loaded(statement: str, repo: Path) -> list[str]:
    """Which heavy packages a fresh interpreter holds after ``statement``."""
    code = PROBE.format(statement, HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, timeout=120, check=True
    )
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return names


def test_importing_the_command_line_imports_nothing_heavy(repo: Path) -> None:
    assert loaded("import flows.cli", repo) == []


def test_control_the_probe_sees_a_heavy_import(repo: Path) -> None:
    assert loaded("import flows.cli, pandas", repo) == ["pandas", "numpy"]


def fade(repo: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as its console script does."""
    code = "from flows.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *args], cwd=repo, capture_output=True, text=True, timeout=120
    )


def commands() -> list[str]:
    from flows.cli import app

    return sorted(
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    )


def test_help_lists_every_command(repo: Path) -> None:
    done = fade(repo, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert {"run", "mine", "generate", "doctor", "pretrain"} <= set(commands())
    for name in commands():
        assert f" {name} " in done.stdout, name


def explains_itself(words: list[str]) -> None:
    """In this process: what a fresh one pulls in is tried above, and each costs half a second."""
    with redirect_stdout(io.StringIO()) as said:
        status = command_line().main([*words, "--help"], prog_name="fade", standalone_mode=False)
    assert status == 0 and f"Example: fade {' '.join(words)}" in said.getvalue(), said.getvalue()


@pytest.mark.parametrize("name", commands())
def test_every_command_has_help_with_an_example(name: str) -> None:
    explains_itself([name])


def nested() -> list[list[str]]:
    """Groups and their commands."""
    from flows.cli import app

    groups = [
        (group.name or "", group.typer_instance) for group in app.registered_groups if group.typer_instance
    ]
    named = [
        [name, one.name or one.callback.__name__]
        for name, group in groups
        for one in group.registered_commands
        if one.callback
    ]
    return [*([name] for name, _ in groups), *named]


@pytest.mark.parametrize("words", nested(), ids=" ".join)
def test_every_command_of_a_group_has_help_with_an_example(words: list[str]) -> None:
    explains_itself(words)


@pytest.mark.parametrize(
    "args", [["no-such-command"], ["run", "--no-such-option"], ["generate"]], ids=" ".join
)
def test_bad_usage_exits_with_2_and_a_sentence(repo: Path, args: list[str]) -> None:
    done = fade(repo, *args)
    assert done.returncode == 2 and done.stderr.startswith("error ") and "Traceback" not in done.stderr, (
        done.stderr
    )
    assert done.stdout == ""


def test_a_style_and_a_concept_are_not_erased_in_one_run(repo: Path) -> None:
    done = fade(repo, "run", "--style", "noto", "--target", "panda")
    assert done.returncode == 2
    assert "--style and --target are both given" in done.stderr and "compose" in done.stderr


def test_no_word_of_a_help_text_is_taken_for_markup() -> None:
    """rich reads ``[the user]`` as a style and shows nothing of it."""
    todo = [command_line()]
    while todo:
        command = todo.pop()
        todo += getattr(command, "commands", {}).values()
        assert [
            option.name for option in command.params if "[" in (getattr(option, "help", None) or "")
        ] == [], command.name
