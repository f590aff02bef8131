"""The flow's own small parts; the whole of it is run in tests/e2e."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path

import psutil
import pytest
import typer

from fade.errors import DataError
from fade.provenance.lineage import Lineage
from fade.run.context import RunContext
from fade.run.resolve_params import load_params
from flows.erase import Clock, age, keep_checks, reproduce, settle
from tests.support import forked


@pytest.mark.parametrize("params_file", ["params.yaml", "elsewhere/my params.yaml"])
def test_the_command_of_the_report_asks_for_the_same_run(params_file: str) -> None:
    from flows.cli import app

    said = reproduce(["grinning face", "panda"], ["train.steps=7", "sampler.prompt=a {concept}"], params_file)
    tool, command, *words = shlex.split(said)
    assert (tool, command) == ("fade", "run")
    asked = typer.main.get_command(app).commands["run"].make_context("run", words).params  # type: ignore[attr-defined]
    assert (list(asked["target"]), str(asked["params"])) == (["grinning face", "panda"], params_file)
    assert list(asked["set_"]) == ["train.steps=7", "sampler.prompt=a {concept}"]


def record(**inputs: str) -> Lineage:
    return Lineage(
        {"inputs": {"before": inputs, "after": None, "unchanged": None}, "outputs": {"adapter_sha256": None}}
    )


def test_inputs_that_changed_under_the_run_are_no_evidence() -> None:
    before = {"base": "a", "images": "b"}
    assert settle(record(**before), before, dict(before), "c" * 64).content["inputs"]["unchanged"] is True
    with pytest.raises(DataError, match="images changed while the run went on"):
        settle(record(**before), before, {"base": "a", "images": "x"}, "c" * 64)


def test_the_data_checks_become_evidence_of_the_run(tmp_path: Path, repo: Path) -> None:
    run = RunContext(load_params(repo / "params.yaml"), "panda", tmp_path)
    run.__dict__["folder"] = tmp_path / "erase" / "panda" / "key"  # its name needs the models
    (run.home / "checks").mkdir(parents=True)
    (run.home / "checks" / "data.json").write_text("{}")
    keep_checks(run)
    assert json.loads((run.folder / "checks" / "data.json").read_text()) == {}


def test_a_clock_adds_up_and_its_total_counts_from_the_start() -> None:
    clock = Clock()
    for _ in range(2):
        with clock.stage("mine"):
            pass
    seconds = clock.total()
    assert list(seconds) == ["mine", "total"] and 0 <= seconds["mine"] < seconds["total"]


def test_a_process_knows_its_age_to_a_tenth_of_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "born"
    before = time.time()
    assert forked(lambda: note.write_text(str(time.time() - age()))) == 0
    assert before - 0.1 < float(note.read_text()) < before + 0.5
    monkeypatch.setattr(
        psutil.Process, "create_time", lambda self: time.time() - 1e6
    )  # the two disagree: psutil is believed
    assert age() == pytest.approx(1e6, abs=1)
