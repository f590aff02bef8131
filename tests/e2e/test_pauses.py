"""A process of a run is stopped (SIGSTOP) for longer than its partners wait for an answer, and goes on: the
run ends with the adapter of an undisturbed one."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.support import Started, fade, small

pytestmark = pytest.mark.failures
RUN = ("run", "--target", "panda", *small("train.steps=12"))
PAUSE_SECONDS = 90.0


@pytest.fixture(scope="module", params=[1, 2], ids=["one-process", "two-processes"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str]:
    """The processes of the training, and the adapter's sha256 of an undisturbed run."""
    runs = tmp_path_factory.mktemp("whole") / "runs"
    done = fade(*RUN, "--json", "--set", f"train.processes={request.param}", runs=runs)
    assert done.returncode == 0, done.stderr
    return request.param, json.loads(done.stdout)["adapter_sha256"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", ["run", "worker", "server"])
def test_a_process_that_was_paused_goes_on(whole: tuple[int, str], part: str, tmp_path: Path) -> None:
    processes, sha256 = whole
    if (part == "worker") != (processes == 2):
        pytest.skip("workers train where there are two, else the run itself")
    run = Started(
        *RUN, "--set", f"train.processes={processes}", runs=tmp_path / "runs", log=tmp_path / "stderr"
    )
    try:
        run.reach("train", lambda: any((tmp_path / "runs").glob("erase/*/*/checkpoints/*")))
        victim = member(run, part)
        victim.suspend()
        time.sleep(PAUSE_SECONDS)
        victim.resume()
        assert run.end(300) == 0, run.said
        assert not run.left()
    finally:
        run.kill()
    (result,) = (tmp_path / "runs").glob("erase/*/*/result.json")
    assert json.loads(result.read_text())["adapter_sha256"] == sha256


def member(run: Started, part: str) -> psutil.Process:
    """The process of the run's family that the test pauses."""
    if part == "run":
        return psutil.Process(run.process.pid)
    module = {"worker": "fade.jobs.worker", "server": "flows.server.connection"}[part]
    # of a launcher and its workers the last one is a worker
    return [one for one in run.family if module in " ".join(one.cmdline())][-1]
