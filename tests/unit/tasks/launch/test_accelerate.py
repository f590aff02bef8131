"""The launcher: its command line and environment."""

from __future__ import annotations

import os
import sys

from fade.utils.files import write_json
from fade.utils.parent import PARENT
from tasks.launch.accelerate import CONFIG, command, environment, launcher_config, threads


def test_several_gpus_go_through_accelerate_with_every_choice_explicit(tmp_path):
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    write_json(tmp_path / CONFIG, launcher_config(4))
    argv = command("fade.jobs.worker", tmp_path / "job.json", 4, "cuda", tmp_path / CONFIG)
    assert argv[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert argv[-3:] == ["--module", "fade.jobs.worker", str(tmp_path / "job.json")]
    args = _validate_launch_command(launch_command_parser().parse_args(argv[3:]))[
        0
    ]  # what accelerate itself makes of them
    assert (args.num_processes, args.num_machines, args.machine_rank) == (4, 1, 0)
    assert (args.multi_gpu, args.gpu_ids, args.cpu) == (True, "all", False)
    assert (args.mixed_precision, args.dynamo_backend) == ("no", "no")
    assert (args.use_deepspeed, args.use_fsdp) == (False, False)
    assert args.num_cpu_threads_per_process == threads(4)
    assert args.training_script == "fade.jobs.worker"
    assert args.config_file == str(tmp_path / CONFIG)


def test_several_cpu_processes_go_through_torchrun(tmp_path):
    """``accelerate launch --cpu --num_processes 2`` starts one."""
    argv = command("fade.jobs.worker", tmp_path / "job.json", 2, "cpu", tmp_path / CONFIG)
    assert argv[-3:] == ["--module", "fade.jobs.worker", str(tmp_path / "job.json")]
    assert argv[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert argv[argv.index("--nproc-per-node") + 1] == "2"
    assert argv[argv.index("--max-restarts") + 1] == "0"


def test_the_environment_says_who_waits_and_drops_a_users_accelerate_settings(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    env = environment(2, "cpu")
    assert "ACCELERATE_MIXED_PRECISION" not in env
    assert env["ACCELERATE_USE_CPU"] == "true"
    assert env[PARENT] == str(os.getpid())
    assert int(env["OMP_NUM_THREADS"]) == max(1, len(os.sched_getaffinity(0)) // 2)
    assert int(environment(1000, "cpu")["OMP_NUM_THREADS"]) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environment(2, "cpu")["OMP_NUM_THREADS"] == "3"
