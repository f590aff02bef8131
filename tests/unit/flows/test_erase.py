"""The flow's own small parts; the whole of it is run in tests/e2e."""

from __future__ import annotations

import shlex

import pytest
import typer

from flows.erase import reproduce


@pytest.mark.parametrize("params_file", ["params.yaml", "elsewhere/my params.yaml"])
def test_the_command_of_the_report_asks_for_the_same_run(params_file: str) -> None:
    from flows.cli import app

    said = reproduce(["grinning face", "panda"], ["train.steps=7", "sampler.prompt=a {concept}"], params_file)
    tool, command, *words = shlex.split(said)
    assert (tool, command) == ("fade", "run")
    asked = typer.main.get_command(app).commands["run"].make_context("run", words).params  # type: ignore[attr-defined]
    assert (list(asked["target"]), str(asked["params"])) == (["grinning face", "panda"], params_file)
    assert list(asked["set_"]) == ["train.steps=7", "sampler.prompt=a {concept}"]
