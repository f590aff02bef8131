"""A job's run: in this process or in workers, its deadline, what is reused, what is put aside, what is raised
on failure."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from types import SimpleNamespace

import pytest
import torch

from fade.config import Params
from fade.errors import CacheError, DivergedError, StorageError, TrainingError
from fade.jobs.base import ERROR, JOB, LOG
from fade.jobs.train import TrainJob
from fade.training import checkpoint
from fade.training import settings as files
from fade.training.settings import ErasureTarget
from fade.utils.files import write_json
from fade.utils.hashing import sha256_of
from tasks.launch.run_job import run_for
from tests.support import bare_job, make_latents, make_tiny_base
from tests.support import run_training as run_job


@pytest.fixture
def job(tmp_path):
    """For two workers, which are processes of their own."""
    alone = bare_job(tmp_path / "out")
    return alone.model_copy(update={"train": alone.train.model_copy(update={"processes": 2})})


def finish(job):
    """What a finished trainer leaves."""
    job.write()
    adapter = job.out / files.ADAPTER
    adapter.write_bytes(b"adapter")
    write_json(job.out / files.HISTORY, [{"step": 1, "loss": 0.5}])
    write_json(
        job.out / files.DONE,
        {"key": job.key(), "adapter_sha256": sha256_of(adapter), "run": {"processes": 1}},
    )
    return adapter


def test_a_finished_adapter_of_the_same_job_is_reused(job):
    adapter = finish(job)
    news = []
    trained = run_job(job, watch=lambda *row: news.append(row))
    assert (trained.adapter, trained.reused, trained.history) == (adapter, True, [{"step": 1, "loss": 0.5}])
    assert news == []  # the stage reports it, see tests/unit/tasks/stages/test_train.py


def test_a_changed_adapter_is_not_reused(job):
    finish(job).write_bytes(b"another")
    with pytest.raises(CacheError, match="not the adapter that was trained"):
        run_job(job)


def test_an_adapter_without_its_witness_is_not_reused(job):
    finish(job)
    (job.out / files.DONE).unlink()
    assert not job.finished()
    (job.out / files.DONE).write_text("{")
    assert not job.finished()


def stand_in(monkeypatch, script):
    """Other workers in place of ours: what is tested is the answer of the process that waits to how they
    end."""
    monkeypatch.setattr(
        "tasks.launch.accelerate.command",
        lambda module, path, processes, device, config: [sys.executable, "-c", script, str(path)],
    )


def test_what_another_job_left_is_put_aside(job, monkeypatch):
    finish(job)
    (job.out / files.CHECKPOINTS).mkdir()
    (job.out / "report.html").write_text("not ours")
    other = job.model_copy(update={"subjects": (ErasureTarget(target="bear"),)})
    stand_in(monkeypatch, "raise SystemExit(1)")
    with pytest.raises(TrainingError):
        run_job(other)
    aside = job.out / f"superseded-{job.key()[:12]}"
    assert (aside / files.ADAPTER).read_bytes() == b"adapter"
    assert (aside / files.CHECKPOINTS).is_dir()
    assert (job.out / "report.html").exists()
    assert json.loads((job.out / JOB).read_text())["subjects"][0]["target"] == "bear"


def test_the_trainers_own_error_is_raised(job, monkeypatch):
    fact = {
        "type": "DivergedError",
        "what": "training diverged at step 7.",
        "stage": "train",
        "action": "lower train.lr.",
    }
    stand_in(
        monkeypatch,
        "import pathlib, sys; "
        f"pathlib.Path(sys.argv[1]).with_name('error.json').write_text({json.dumps(fact)!r}); sys.exit(1)",
    )
    with pytest.raises(DivergedError, match=r"diverged at step 7\. Next: lower train\.lr\."):
        run_job(job)


@pytest.mark.parametrize(
    ("script", "match"),
    [
        ("raise ValueError('what happened')", "what happened"),
        ("import os; os.kill(os.getpid(), 9)", "out of memory, or killed"),
        ("pass", "ended without its result"),
    ],
)
def test_a_trainer_that_dies_is_told_of(job, monkeypatch, script, match):
    stand_in(monkeypatch, script)
    with pytest.raises(TrainingError, match=match) as error:
        run_job(job)
    assert LOG in str(error.value)


def test_a_stale_error_is_not_raised_again(job, monkeypatch):
    job.write()
    write_json(job.out / ERROR, {"type": "DivergedError", "what": "old.", "stage": "", "action": ""})
    stand_in(monkeypatch, "import sys; sys.exit('new trouble')")
    with pytest.raises(TrainingError, match="new trouble"):
        run_job(job)


def test_progress_is_followed(job, monkeypatch):
    script = """
import json, pathlib, sys, time
out = pathlib.Path(sys.argv[1]).parent
for step in (1, 2):
    for rank in (0, 1):
        part = out / "part"
        part.write_text(json.dumps({"done": step, "total": 2, "text": f"step {step} of rank {rank}"}))
        part.rename(out / f"progress-{rank}.json")
    time.sleep(0.5)
sys.exit(1)
"""
    stand_in(monkeypatch, script)
    news = []
    with pytest.raises(TrainingError):
        run_job(job, watch=lambda *row: news.append(row))
    assert news[-2:] == [(2, 4, "step 1 of rank 0"), (4, 4, "step 2 of rank 0")]


def test_a_folder_that_cannot_be_written_is_named(job, tmp_path):
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="out"):
        run_job(job)


# --- in this process


@pytest.fixture
def base(tmp_path):
    from fade.models.loading import load_model

    return load_model(str(make_tiny_base(tmp_path / "base")), device="cpu")


def trainable(base, out, **train):
    """A job of six steps for ``base``."""
    latents = make_latents(out.parent / "latents.safetensors")
    settings = {
        "steps": 6,
        "warmup": 1,
        "checkpoint_every": 2,
        "precision": "fp32",
        "batch_target": 2,
        "batch_neighbours": 5,
        **train,
    }
    changed = {
        "base": base.path,
        "base_sha256": base.sha256,
        "subjects": [{"target": "panda", "neighbours": ["koala", "bear", "tiger", "lion", "cat"]}],
        "latents": latents,
        "latents_sha256": sha256_of(latents),
        "mesh": {"rank": 2, "alpha": 4.0},
        "method": {"name": "fade", "variant": "paper"},
        "train": settings,
    }
    return TrainJob.model_validate({**bare_job(out).model_dump(), **changed})


def settings_of_this_process():
    deterministic = torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory
    return torch.get_num_threads(), deterministic, dict(os.environ)


def test_one_process_is_this_one_which_is_afterwards_as_before(base, tmp_path, monkeypatch):
    """Under settings of the user for accelerate and another number of threads, none of which may count."""
    monkeypatch.setattr("tasks.launch.accelerate.Group", None)  # nothing is started
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    weights = {name: value.clone() for name, value in base.denoiser.state_dict().items()}
    base.encode(["a panda", "a cat"])
    embeddings, before = dict(base._encoded), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        settings = settings_of_this_process()
        trained = run_job(trainable(base, tmp_path / "out"), base)
        assert settings_of_this_process() == settings
    finally:
        torch.set_num_threads(before)
    assert (trained.run["threads"], trained.run["precision"], trained.run["processes"]) == (1, "no", 1)
    assert list(base.denoiser.state_dict()) == list(weights)
    assert all(torch.equal(value, weights[name]) for name, value in base.denoiser.state_dict().items())
    assert base._encoded == embeddings
    assert not list((tmp_path / "out").glob("progress-*"))  # nobody reads them


def test_what_was_encoded_before_does_not_decide_the_bytes(base, tmp_path):
    fresh = run_job(trainable(base, tmp_path / "fresh"), base)
    panda = base.encode(["a panda"])
    base._encoded = {f"a {name}": panda.map(torch.randn_like) for name in ("panda", "koala", "bear")}
    assert (
        run_job(trainable(base, tmp_path / "later"), base).adapter.read_bytes() == fresh.adapter.read_bytes()
    )
    control = run_job(trainable(base, tmp_path / "control", seed=1), base)
    assert control.adapter.read_bytes() != fresh.adapter.read_bytes()


def test_a_process_may_train_in_one_precision_after_another(base, tmp_path):
    runs = [
        run_job(trainable(base, tmp_path / precision, precision=precision), base).run
        for precision in ("bf16", "fp32")
    ]
    assert [run["precision"] for run in runs] == ["bf16", "no"]


def test_steps_are_reported_as_those_of_workers_are(base, tmp_path, monkeypatch):
    monkeypatch.setattr("fade.training.loop._PROGRESS_EVERY", 0.0)
    news = []
    run_job(trainable(base, tmp_path / "out"), base, watch=lambda *row: news.append(row))
    assert [(done, total) for done, total, _ in news] == [(step, 6) for step in (0, 1, 2, 3, 4, 5, 6, 6)]
    assert re.fullmatch(r"loss \S+  erase \S+  adjacency \S+  guidance \S+  [\d.]+ steps/s", news[-1][2])


def test_the_deadline_stops_a_training_which_then_resumes_to_the_same_bytes(base, tmp_path, monkeypatch):
    monkeypatch.setattr("fade.training.loop._PROGRESS_EVERY", 0.0)
    whole = run_job(trainable(base, tmp_path / "whole"), base)
    clock = iter(
        [0.0, *(float(step) for step in range(1, 100))]
    )  # a second a look: at the start, and at each report: before the first step and after each
    job = trainable(base, tmp_path / "cut", deadline_seconds=5.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.launch.run_job.time", SimpleNamespace(monotonic=lambda: next(clock)))
        with pytest.raises(TrainingError, match=r"deadline of 5\.5 s passed"):
            run_job(job, base)
    assert checkpoint.steps_in(job.out / files.CHECKPOINTS) == [2, 4]
    resumed = run_job(job, base)
    assert resumed.run["resumed_at"] == 4
    assert resumed.adapter.read_bytes() == whole.adapter.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_training_which_then_resumes_to_the_same_bytes(base, tmp_path, monkeypatch, number):
    """The command line answers both with KeyboardInterrupt."""
    monkeypatch.setattr("fade.training.loop._PROGRESS_EVERY", 0.0)
    whole = run_job(trainable(base, tmp_path / "whole"), base)
    job = trainable(base, tmp_path / "cut")

    def stop(done, total, text):
        if done == 5:
            signal.raise_signal(number)

    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_job(job, base, watch=stop)
    finally:
        signal.signal(number, before)
    assert not any("lora" in name for name, _ in base.denoiser.named_modules())
    resumed = run_job(job, base)
    assert resumed.run["resumed_at"] == 4
    assert resumed.adapter.read_bytes() == whole.adapter.read_bytes()


@pytest.mark.parametrize(
    ("error", "kind", "match"),
    [
        (torch.OutOfMemoryError(), TrainingError, "ran out of memory"),
        (OSError(28, "No space left on device", "checkpoints"), StorageError, "disk is full|No space left"),
        (DivergedError("the loss rose.", stage="train"), DivergedError, "the loss rose"),
        (ValueError("what happened"), TrainingError, "ValueError: what happened"),
    ],
)
def test_what_stops_a_training_here_has_a_sentence(base, tmp_path, error, kind, match):
    def fail(done, total, text):
        raise error

    with pytest.raises(kind, match=match):
        run_job(trainable(base, tmp_path / "out"), base, watch=fail)
    log = tmp_path / "out" / LOG
    assert log.exists() == (type(error) in (torch.OutOfMemoryError, OSError, ValueError))
    assert not log.exists() or "Traceback" in log.read_text()


def test_a_job_for_another_process_holds_the_self_tests_of_the_models_here(job, monkeypatch):
    """So that a machine that computes something else is found out where it loads them."""
    sent = []
    monkeypatch.setattr(
        "tasks.launch.deployment.run_deployed",
        lambda job, path, *_, **__: (sent.append(TrainJob.read(path)), finish(job)),
    )
    recorded = {"version": 1, "sha256": "b" * 64, "dtype": "float32", "numbers": {"picture": [0.5, 1.0]}}
    params = Params.model_validate(
        {"schedule": {"train_deployment": "run-job/gpu"}, "self_test": {"difference": "warn"}}
    )
    models = SimpleNamespace(
        base=SimpleNamespace(device=torch.device("cpu")),
        self_tests=SimpleNamespace(measured={"base": recorded, "clip": recorded}),
    )
    run_for(SimpleNamespace(params=params, models=models), job)
    assert sent[0].self_tests == {"base": recorded} and sent[0].self_test == params.self_test
    assert sent[0].key() == job.key()
