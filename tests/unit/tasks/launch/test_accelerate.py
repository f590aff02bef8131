"""The launcher: its command line and environment, and a trainer that is there before its job."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from fade.errors import StorageError, TrainingError
from fade.training import job as files
from fade.training.worker import awaited
from fade.utils.files import write_json
from fade.utils.parent import PARENT
from tasks.launch.accelerate import (
    AHEAD,
    CONFIG,
    Ahead,
    command,
    environment,
    launched_ahead,
    launcher_config,
    threads,
)
from tests.support import bare_job

TRAINER = """
import pathlib, sys, time
assert sys.argv[1] == "--wait"
print("imported", flush=True)
note = pathlib.Path(sys.argv[2])
while not note.exists():
    time.sleep(0.01)
print("trains", note.read_text(), flush=True)
"""
"""Waits as ours does, and imports nothing."""


@pytest.fixture
def job(tmp_path):
    """A job whose file is written."""
    job = bare_job(tmp_path / "run" / "out")
    job.write()
    return job


@pytest.fixture
def stand_in(monkeypatch):
    def use(script=TRAINER):
        monkeypatch.setattr(
            "tasks.launch.accelerate.command", lambda asked, *_: [sys.executable, "-c", script, *asked]
        )
        monkeypatch.setattr("tasks.launch.accelerate.unfolded", lambda argv, env: (argv, env))

    return use


def seen(file, words):
    """Whether ``file`` says ``words`` before long."""
    for _ in range(1000):
        if file.exists() and words in file.read_text():
            return True
        time.sleep(0.01)
    return False


# --- the command line


def parsed(tmp_path, n, device):
    """What accelerate itself makes of our arguments."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    write_json(tmp_path / CONFIG, launcher_config(n, device))
    argv = command(["job.json"], n, device, tmp_path / CONFIG)
    assert argv[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert argv[-3:] == ["--module", "fade.training.worker", "job.json"]
    return _validate_launch_command(launch_command_parser().parse_args(argv[3:]))[0]


def test_one_process_goes_through_accelerate_with_every_choice_explicit(tmp_path):
    args = parsed(tmp_path, 1, "cpu")
    assert (args.num_processes, args.num_machines, args.machine_rank) == (1, 1, 0)
    assert (args.mixed_precision, args.dynamo_backend) == ("no", "no")
    assert (args.multi_gpu, args.use_deepspeed, args.use_fsdp) == (False, False, False)
    assert args.cpu
    assert args.num_cpu_threads_per_process == threads(1)
    assert args.training_script == "fade.training.worker"
    assert args.config_file == str(tmp_path / CONFIG)


@pytest.mark.parametrize(("n", "multi", "ids"), [(1, False, "0"), (4, True, "all")])
def test_gpus_go_through_accelerate(tmp_path, n, multi, ids):
    args = parsed(tmp_path, n, "cuda")
    assert (args.num_processes, args.multi_gpu, args.gpu_ids, args.cpu, args.mixed_precision) == (
        n,
        multi,
        ids,
        False,
        "no",
    )


def test_several_cpu_processes_go_through_torchrun(tmp_path):
    """``accelerate launch --cpu --num_processes 2`` starts one."""
    argv = command(["job.json"], 2, "cpu", tmp_path / CONFIG)
    assert argv[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert argv[argv.index("--nproc-per-node") + 1] == "2"
    assert argv[argv.index("--max-restarts") + 1] == "0"


def test_the_environment_says_who_waits_and_drops_a_users_accelerate_settings(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    env = environment(1, "cpu")
    assert "ACCELERATE_MIXED_PRECISION" not in env
    assert env["ACCELERATE_USE_CPU"] == "true"
    assert env["FADE_PARENT_PID"] == str(os.getpid())
    assert int(env["OMP_NUM_THREADS"]) == len(os.sched_getaffinity(0))
    assert int(environment(1000, "cpu")["OMP_NUM_THREADS"]) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environment(1, "cpu")["OMP_NUM_THREADS"] == "3"


# --- ahead of its job


def test_a_trainer_that_waits_gets_the_job_and_writes_its_log_where_the_run_is(job, stand_in, tmp_path):
    stand_in()
    waiting = Ahead(tmp_path / "run" / AHEAD, job.train.processes, "cpu")
    assert seen(tmp_path / "run" / AHEAD / files.LOG, "imported")
    group = waiting.begin(job, "cpu")
    assert group is not None and group.wait(60) == 0
    assert (job.out / files.LOG).read_text().split() == [
        "imported",
        "trains",
        str((job.out / files.JOB).absolute()),
    ]
    assert (job.out / CONFIG).is_file()
    waiting.close()
    assert not (tmp_path / "run" / AHEAD).exists()


@pytest.mark.parametrize(("processes", "device"), [(2, "cpu"), (1, "cuda")])
def test_one_for_another_kind_of_job_is_not_used(job, stand_in, tmp_path, processes, device):
    stand_in()
    waiting = Ahead(tmp_path / "run" / AHEAD, processes, device)
    assert waiting.begin(job, "cpu") is None
    waiting.close()
    assert not (job.out / files.LOG).exists()


def test_one_that_died_is_not_used(job, stand_in, tmp_path):
    stand_in("raise SystemExit(1)")
    waiting = Ahead(tmp_path / "run" / AHEAD, job.train.processes, "cpu")
    while waiting._group.runs():
        time.sleep(0.01)
    assert waiting.begin(job, "cpu") is None
    waiting.close()


def test_what_an_earlier_one_left_is_not_taken_for_a_job(job, stand_in, tmp_path):
    stand_in()
    left = tmp_path / "run" / AHEAD / "job"
    left.parent.mkdir()
    left.write_text("another's")
    waiting = Ahead(left.parent, job.train.processes, "cpu")
    assert seen(left.parent / files.LOG, "imported")
    assert not left.exists()
    waiting.close()


def run(home):
    return SimpleNamespace(
        home=home, params=SimpleNamespace(train=SimpleNamespace(processes=1), sha256=lambda: "5" * 64)
    )


def test_it_ends_with_the_flow_however_that_ends(stand_in, tmp_path):
    stand_in()
    groups = []

    def flow():
        with launched_ahead(run(tmp_path)) as waiting:
            groups.append(waiting._group)
            assert groups[0].runs()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flow()
    assert not groups[0].runs()
    assert not list(tmp_path.iterdir())


def test_where_none_can_be_started_the_flow_goes_on(stand_in, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("where the folder should be")
    with launched_ahead(run(tmp_path / "file")) as waiting:
        assert waiting is None
    monkeypatch.setattr(
        "tasks.launch.accelerate.Group", lambda *_, **__: (_ for _ in ()).throw(OSError("too many processes"))
    )
    with launched_ahead(run(tmp_path)) as waiting:
        assert waiting is None
    with (
        pytest.raises(StorageError),
        launched_ahead(run(tmp_path)),
    ):  # control: a fault of the flow's own is passed on
        raise StorageError("full.", stage="mine")


def test_none_is_started_for_what_was_trained_before(job, stand_in, tmp_path):
    stand_in()
    home = tmp_path / "run"  # of which job.out is one run
    for params, finished, starts in (
        ("5" * 64, False, True),
        ("6" * 64, True, True),
        ("5" * 64, True, False),
    ):
        job.model_copy(update={"provenance": {"params_sha256": params}}).write()
        (job.out / files.DONE).unlink(missing_ok=True)
        if finished:
            write_json(job.out / files.DONE, {})
        with launched_ahead(run(home)) as waiting:
            assert (waiting is not None) is starts


def test_nobody_left_who_could_write_the_job_ends_the_wait(tmp_path, monkeypatch):
    with subprocess.Popen(["true"]) as process:
        process.wait()
    monkeypatch.setenv(PARENT, str(process.pid))
    with pytest.raises(TrainingError, match="is gone"):
        awaited(tmp_path / "job")
    monkeypatch.setenv(PARENT, str(os.getpid()))
    (tmp_path / "job").write_text("a/job.json")
    assert awaited(tmp_path / "job").name == "job.json"
