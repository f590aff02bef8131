"""The data checks become evidence of the run."""

from __future__ import annotations

import json
from pathlib import Path

from fade.run.context import RunContext
from fade.run.resolve_params import load_params
from tasks.stages.validate import keep_checks


def test_the_data_checks_become_evidence_of_the_run(tmp_path: Path, repo: Path) -> None:
    run = RunContext(load_params(repo / "params.yaml"), "panda", tmp_path)
    run.__dict__["folder"] = tmp_path / "erase" / "panda" / "key"  # its name needs the models
    (run.home / "checks").mkdir(parents=True)
    (run.home / "checks" / "data.json").write_text("{}")
    keep_checks(run)
    assert json.loads((run.folder / "checks" / "data.json").read_text()) == {}
