"""Requests through the command line, really erased with small numbers: two workers at once, and one that is
killed in the middle."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.support import REPO, Started, command, environment, fade, small
from tests.requested import entry

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
NOTHING = dict.fromkeys(("erased", "neighbours_kept", "heldout_kept", "rest_kept", "erb"), 0)
"""Thresholds for six steps of training."""


def options_for(folder: Path, *entries: dict[str, Any]) -> list[str]:
    """A requests.yaml of its own, and the options that name it."""
    file = folder / "requests.yaml"
    file.write_text(yaml.safe_dump({"requests": list(entries)}))
    return [*small(), "--set", f"schedule.requests={file}", "--set", "schedule.lease_seconds=20"]


def states(runs: Path, options: list[str]) -> dict[str, dict[str, Any]]:
    listed = fade("requests", "--json", *options, runs=runs)
    assert listed.returncode == 0, listed.stderr
    return {one["id"]: one for one in json.loads(listed.stdout)["requests"]}


def test_two_workers_at_once_erase_a_request_once_and_one_that_is_killed_is_continued(tmp_path: Path) -> None:
    runs, options = tmp_path / "runs", options_for(tmp_path, entry("p1", thresholds=NOTHING))
    line = command("requests", "run", "--json", *options, runs=runs)
    both = [
        subprocess.Popen(
            line, cwd=REPO, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ended = [(one.communicate(timeout=900), one.returncode) for one in both]
    assert [code for _, code in ended] == [0, 0], [said[1][-2000:] for said, _ in ended]
    outcomes = [o for (out, _), _ in ended for o in json.loads(out)["outcomes"]]
    assert [(o["id"], o["result"], o["version"]) for o in outcomes] == [("p1", "done", "fade-panda/1")]
    assert states(runs, options)["p1"]["state"] == "done"

    options = options_for(tmp_path, entry("p1", thresholds=NOTHING), entry("l1", "lemon", thresholds=NOTHING))
    worker = Started("requests", "run", *options, runs=runs, log=tmp_path / "worker.log")
    try:
        worker.reach("train", lambda: bool(list(runs.glob("erase/lemon/*/checkpoints/*"))), timeout=600)
        assert states(runs, options)["l1"]["state"] in ("running", "done")
        worker.signal(signal.SIGKILL, group=True)
        worker.end(30)
    finally:
        worker.kill()
    assert "its worker ended in the middle" in states(runs, options)["l1"]["detail"]
    again = fade("requests", "run", "--json", *options, runs=runs)
    assert again.returncode == 0, again.stderr
    assert [(o["id"], o["version"]) for o in json.loads(again.stdout)["outcomes"]] == [("l1", "fade-lemon/1")]
    after = states(runs, options)
    assert {one["state"] for one in after.values()} == {"done"} and after["l1"]["version"] == "fade-lemon/1"
