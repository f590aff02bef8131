"""What starts the trainer against ``accelerate launch`` itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fade.utils.files import write_json
from tasks.launch.accelerate import CONFIG, command, environment, launcher_config, unfolded

MODULE = "import json, os, sys; json.dump([sys.argv[1:], dict(os.environ)], open(sys.argv[1], 'w'))"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_one_process_is_started_as_accelerate_launch_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """The same arguments and the same environment, to the last variable, where the user has settings of his
    own."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    monkeypatch.setenv("ACCELERATE_LOG_LEVEL", "debug")
    (tmp_path / "stand_in.py").write_text(MODULE)
    write_json(tmp_path / CONFIG, launcher_config(1, device))
    env = {
        **environment(1, device),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), environment(1, device)["PYTHONPATH"]]),
    }
    before = dict(os.environ)
    told = []
    for name in ("launcher", "direct"):
        argv = command([str(tmp_path / name), "--and", "more"], 1, device, tmp_path / CONFIG)
        argv[argv.index("fade.training.worker")] = "stand_in"
        line, around = (argv, env) if name == "launcher" else unfolded(argv, env)
        subprocess.run(line, env=around, check=True)
        told.append(json.loads((tmp_path / name).read_text()))
        told[-1][0][0] = Path(told[-1][0][0]).parent.name
    assert line[:3] == [sys.executable, "-m", "stand_in"]
    assert told[0] == told[1]
    assert (
        told[0][1]["ACCELERATE_USE_CPU"] == str(device == "cpu") and "ACCELERATE_LOG_LEVEL" not in told[0][1]
    )
    assert dict(os.environ) == before
