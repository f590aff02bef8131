"""The forked trainer against one that is a process of its own. Each test forks a process of its own, as
pytest's have threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from fade.models import Base
from fade.training import job as files
from fade.utils.parent import PARENT
from tests.integration.test_training import make_job
from tests.support import DEEP, ends, make_tiny_base

TELLS = """
import json, os, pathlib, signal, sys
import torch
from fade.utils import parent
from fade.training import worker as trainer
from tasks import twin
from tasks.launch.process_group import Group

def told(arguments):
    print("it writes here", flush=True)
    facts = {"arguments": arguments, "pid": os.getpid(), "group": os.getpgid(0), "parent": parent._launcher, "env": dict(os.environ)}
    facts |= {"cwd": os.getcwd(), "stdin": os.readlink("/proc/self/fd/0"), "name": open("/proc/self/comm").read().strip()}
    facts["open"] = [fd for fd in range(3, 200) if os.path.exists(f"/proc/self/fd/{fd}") and "pipe" in os.readlink(f"/proc/self/fd/{fd}")]
    facts["heard"] = [signal.getsignal(n) == d for n, d in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL))]
    pathlib.Path(arguments[0]).write_text(json.dumps(facts))
    parent.raise_if_orphaned()
    if arguments[1:] == ["wait"]:
        signal.pause()
    return 7

trainer.main = told
log = pathlib.Path("log")
line = [sys.executable, "-m", "fade.training.worker", "facts"]
"""
"""A trainer that says what it is."""


def script(text: str, folder: Path, repo: Path, **env: str) -> subprocess.Popen[str]:
    around = {**os.environ, "PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1", **env}
    line = [sys.executable, "-c", TELLS + text]
    return subprocess.Popen(
        line, cwd=folder, env=around, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def said(text: str, folder: Path, repo: Path, **env: str) -> str:
    process = script(text, folder, repo, **env)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return out


def test_it_becomes_what_a_new_process_would_be(tmp_path: Path, repo: Path) -> None:
    """Its arguments, environment, log, group, signals; and no pipe of ours is kept open by it."""
    text = """
mine = os.pipe()
print("buffered", end="")
twin.make()
os.environ["FROM"] = "here"
env = {"FADE_PARENT_PID": str(os.getpid()), "OMP_NUM_THREADS": "1", "ONLY": "this"}
leader = twin.take(line, env, log)
group = Group(line, log=log, env=env, leader=leader)
status = group.wait(60)
print(json.dumps({"status": status, "pid": leader.pid, "us": os.getpid(), "again": twin.take(line, env, log) is None}))
"""
    out = said(text, tmp_path, repo)
    assert out.count("buffered") == 1
    ours, its = json.loads(out.removeprefix("buffered")), json.loads((tmp_path / "facts").read_text())
    assert (ours["status"], ours["again"]) == (7, True)
    assert its["pid"] == its["group"] == ours["pid"] and its["parent"] == ours["us"]
    assert its["env"] == {PARENT: str(ours["us"]), "OMP_NUM_THREADS": "1", "ONLY": "this"}
    assert (its["arguments"], its["cwd"], its["stdin"], its["name"]) == (
        ["facts"],
        str(tmp_path),
        os.devnull,
        "fade.training.worker",
    )
    assert its["open"] == [] and its["heard"] == [True, True]
    assert (tmp_path / "log").read_text() == "it writes here\n"


def test_it_is_stopped_as_a_group_is(tmp_path: Path, repo: Path) -> None:
    text = """
import time
twin.make()
leader = twin.take([*line, "wait"], dict(os.environ), log)
group = Group(line, log=log, env={}, leader=leader)
while not pathlib.Path("facts").exists():
    time.sleep(0.01)
began = time.monotonic()
assert group.runs()
group.stop()
print(leader.poll(), time.monotonic() - began < 5)
"""
    assert said(text, tmp_path, repo) == "-15 True\n"


@pytest.mark.parametrize(
    ("before", "asked"),
    [
        ("twin.make()", "['launcher', *line]"),
        ("twin.make(); env['OMP_NUM_THREADS'] = '3'", "line"),
        ("twin.make(); os.kill(twin._twin.pid, signal.SIGKILL); twin._twin.wait()", "line"),
        ("import threading; threading.Thread(target=signal.pause, daemon=True).start(); twin.make()", "line"),
        ("torch.version.cuda = '13.0'; twin.make()", "line"),
        ("del sys.modules['torch']; twin.make()", "line"),
        ("twin.make(); twin.end()", "line"),
    ],
    ids=[
        "another program",
        "other threads",
        "killed",
        "a second thread",
        "a GPU",
        "nothing to share",
        "ended",
    ],
)
def test_where_it_does_not_fit_there_is_none(tmp_path: Path, repo: Path, before: str, asked: str) -> None:
    text = f"""
env = dict(os.environ)
{before}
print(twin.take({asked}, env, log))
one = twin._twin
twin.end()
print(one and one.poll())
"""
    waited = before.startswith("twin.make()") and "kill" not in before and "end" not in before
    assert said(text, tmp_path, repo) == f"None\n{-9 if waited else None}\n"
    assert not (tmp_path / "facts").exists()


@pytest.mark.parametrize("waits", [True, False])
def test_it_ends_with_a_process_that_is_killed(tmp_path: Path, repo: Path, waits: bool) -> None:
    """-9: as it waits, by its closed socket; as a trainer, by looking for its parent as any trainer does."""
    text = """
import time
def long(arguments):
    while True:
        parent.raise_if_orphaned()
        time.sleep(0.02)
trainer.main = long
twin.make()
one = twin._twin
if sys.stdin.readline() != "wait\\n":
    os.environ["FADE_PARENT_PID"] = str(os.getpid())
    twin.take(line, dict(os.environ), log)
print(one.pid, flush=True)
sys.stdin.readline()
"""
    process = script(text, tmp_path, repo)
    assert process.stdin and process.stdout
    process.stdin.write("wait\n" if waits else "train\n")
    process.stdin.flush()
    other = psutil.Process(int(process.stdout.readline()))
    time.sleep(0.2)
    assert other.is_running() and other.status() != psutil.STATUS_ZOMBIE
    process.kill()
    process.communicate()
    assert ends(other)


def test_it_trains_to_the_bytes_of_a_process_of_its_own(tmp_path: Path, repo: Path) -> None:
    base = Base.load(str(make_tiny_base(tmp_path / "base", **DEEP)), device="cpu")
    for name, seed in (("twin", 0), ("process", 0), ("control", 1)):
        make_job(base, tmp_path / name, steps=20, seed=seed).write()
    text = """
import importlib
from fade.training.job import Job
from fade.training.loop import train
from tasks.stages.train import run_job
importlib.reload(trainer)
for name in trainer.LIBRARIES:
    importlib.import_module(name)
twin.make()
for name in ("twin", "process", "control"):
    waiting = twin._twin
    run_job(Job.read(pathlib.Path(name) / "job.json"))
    print(waiting is not None, twin._twin is None)
"""
    assert said(text, tmp_path, repo) == "True True\nFalse True\nFalse True\n"
    adapters = [(tmp_path / name / files.ADAPTER).read_bytes() for name in ("twin", "process", "control")]
    assert adapters[0] == adapters[1] != adapters[2]
    facts: list[dict[str, Any]] = [
        json.loads((tmp_path / name / files.DONE).read_text())["run"] for name in ("twin", "process")
    ]
    assert facts[0]["threads"] == facts[1]["threads"] == 1
