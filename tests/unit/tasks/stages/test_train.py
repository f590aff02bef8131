"""Training: its process or process group, its deadline, what is reused, what is put aside, what is raised on
failure."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
import torch

from fade.errors import CacheError, DivergedError, StorageError, TrainingError
from fade.jobs.train import TrainJob
from fade.training import checkpoint
from fade.training import settings as files
from fade.training.settings import ErasureTarget
from fade.utils import progress
from fade.utils.files import write_json
from fade.utils.hashing import sha256_of
from tasks.launch.process_group import Group, run_group, stop_group
from tasks.stages.train import find_finished, run_job, write_job
from tests.support import bare_job, make_latents, make_tiny_base


@pytest.fixture
def job(tmp_path):
    """For two workers, which are processes of their own."""
    alone = bare_job(tmp_path / "out")
    return alone.model_copy(update={"train": alone.train.model_copy(update={"processes": 2})})


# --- the process group

SLEEPER = (
    "import subprocess, sys, time; c = subprocess.Popen([sys.executable, '-c', {child!r}]{new}); "
    "open({pids!r}, 'w').write(f'{{c.pid}} '); time.sleep(600)"
)
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def sleeper(tmp_path, child="import time; time.sleep(600)", own_session=False):
    """A process with a child (which may ignore TERM, or sit in a session of its own, as torchrun's workers
    do)."""
    pids = tmp_path / "pids"
    new = ", start_new_session=True" if own_session else ""
    return [sys.executable, "-c", SLEEPER.format(child=child, new=new, pids=str(pids))], pids


def running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def child_of(pids):
    while not pids.exists() or not pids.read_text().endswith(" "):
        time.sleep(0.01)
    return int(pids.read_text())


def gone(pid):
    for _ in range(500):
        if not running(pid):
            return True
        time.sleep(0.01)
    return False


def test_output_and_status_are_kept(tmp_path):
    script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert run_group([sys.executable, "-c", script], deadline=60, log=tmp_path / "log", env=os.environ) == 3
    assert sorted((tmp_path / "log").read_text().split()) == ["err", "out"]


@pytest.mark.parametrize("own_session", [False, True])
def test_the_deadline_ends_the_whole_family(tmp_path, own_session):
    argv, pids = sleeper(tmp_path, own_session=own_session)
    seen = []

    def tick():
        if not seen:
            seen.append(child_of(pids))

    with pytest.raises(TrainingError, match=r"deadline of 0\.2 s"):
        run_group(argv, deadline=0.2, log=tmp_path / "log", env=os.environ, tick=tick)
    assert gone(child_of(pids))


def test_ctrl_c_ends_the_whole_family_and_is_passed_on(tmp_path):
    argv, pids = sleeper(tmp_path)
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a runner in the background hands it down as ignored

    def tick():
        child_of(pids)
        signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            run_group(argv, deadline=60, log=tmp_path / "log", env=os.environ, tick=tick)
    finally:
        signal.signal(signal.SIGINT, before)
    assert gone(child_of(pids))


def test_who_ignores_term_is_killed(tmp_path):
    argv, pids = sleeper(tmp_path, child=STUBBORN, own_session=True)
    process = subprocess.Popen(argv, start_new_session=True)
    child = child_of(pids)
    stop_group(process, grace=0.3)
    assert process.returncode is not None
    assert gone(child)


def test_a_group_is_signalled_once_as_its_number_may_be_anothers_later(tmp_path, monkeypatch):
    group = Group([sys.executable, "-c", ""], log=tmp_path / "log", env=os.environ)
    assert group.wait(60) == 0
    signalled = []
    monkeypatch.setattr("os.killpg", lambda pid, number: signalled.append(pid))
    group.stop()
    assert not signalled


def test_the_parent_is_not_in_the_group(tmp_path):
    script = f"import os; assert os.getpgid(0) != {os.getpgid(0)}"
    assert run_group([sys.executable, "-c", script], deadline=60, log=tmp_path / "log", env=os.environ) == 0


# --- what is reused, put aside, told


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
    heard = []
    with progress.on_progress(lambda *news: heard.append(news)):
        trained = run_job(job)
    assert (trained.adapter, trained.reused, trained.history) == (adapter, True, [{"step": 1, "loss": 0.5}])
    assert heard == [("train", job.train.steps, job.train.steps, "trained before")]


def test_a_changed_adapter_is_not_reused(job):
    finish(job).write_bytes(b"another")
    with pytest.raises(CacheError, match="not the adapter that was trained"):
        run_job(job)


def test_an_adapter_without_its_witness_is_not_reused(job):
    finish(job)
    (job.out / files.DONE).unlink()
    assert find_finished(job) is None
    (job.out / files.DONE).write_text("{")
    assert find_finished(job) is None


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
    assert json.loads((job.out / files.JOB).read_text())["subjects"][0]["target"] == "bear"


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
        ("pass", "ended without an adapter"),
    ],
)
def test_a_trainer_that_dies_is_told_of(job, monkeypatch, script, match):
    stand_in(monkeypatch, script)
    with pytest.raises(TrainingError, match=match) as error:
        run_job(job)
    assert files.LOG in str(error.value)


def test_a_stale_error_is_not_raised_again(job, monkeypatch):
    job.write()
    write_json(job.out / files.ERROR, {"type": "DivergedError", "what": "old.", "stage": "", "action": ""})
    stand_in(monkeypatch, "import sys; sys.exit('new trouble')")
    with pytest.raises(TrainingError, match="new trouble"):
        run_job(job)


def test_progress_is_followed(job, monkeypatch):
    script = """
import json, pathlib, sys, time
out = pathlib.Path(sys.argv[1]).parent
for step in (1, 2):
    part = out / "part"
    losses = {"loss": 0.25, "lr": 1.0}
    part.write_text(json.dumps({"step": step, "steps": 2, "losses": losses, "it_per_s": 4.0}))
    part.rename(out / "progress.json")
    time.sleep(0.5)
sys.exit(1)
"""
    stand_in(monkeypatch, script)
    heard = []
    with pytest.raises(TrainingError):
        run_job(job, watch=lambda *news: heard.append(news))
    assert heard[-2:] == [(1, 2, "loss 0.25  4.0 steps/s"), (2, 2, "loss 0.25  4.0 steps/s")]


def test_a_folder_that_cannot_be_written_is_named(job, tmp_path):
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="out"):
        run_job(job)


# --- in this process


@pytest.fixture
def base(tmp_path):
    from fade.models import Base

    return Base.load(str(make_tiny_base(tmp_path / "base")), device="cpu")


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
    weights = {name: value.clone() for name, value in base.unet.state_dict().items()}
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
    assert list(base.unet.state_dict()) == list(weights)
    assert all(torch.equal(value, weights[name]) for name, value in base.unet.state_dict().items())
    assert base._encoded == embeddings
    assert not (tmp_path / "out" / files.PROGRESS).exists()  # nobody reads it


def test_what_was_encoded_before_does_not_decide_the_bytes(base, tmp_path):
    fresh = run_job(trainable(base, tmp_path / "fresh"), base)
    base._encoded = {
        f"a {name}": torch.randn_like(base.encode(["a panda"])[0]) for name in ("panda", "koala", "bear")
    }
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
    heard = []
    run_job(trainable(base, tmp_path / "out"), base, watch=lambda *news: heard.append(news))
    assert [(done, total) for done, total, _ in heard] == [(step, 6) for step in (0, 1, 2, 3, 4, 5, 6, 6)]
    assert re.fullmatch(r"loss \S+  erase \S+  adjacency \S+  guidance \S+  [\d.]+ steps/s", heard[-1][2])


def test_the_deadline_stops_a_training_which_then_resumes_to_the_same_bytes(base, tmp_path):
    whole = run_job(trainable(base, tmp_path / "whole"), base)
    clock = iter(
        [0.0, *(float(step) for step in range(1, 100))]
    )  # a second a look: a look at the start and after each step
    job = trainable(base, tmp_path / "cut", deadline_seconds=4.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.stages.train.time", SimpleNamespace(monotonic=lambda: next(clock)))
        with pytest.raises(TrainingError, match=r"deadline of 4\.5 s passed"):
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
    assert not any("lora" in name for name, _ in base.unet.named_modules())
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
    log = tmp_path / "out" / files.LOG
    assert log.exists() == (type(error) in (torch.OutOfMemoryError, OSError, ValueError))
    assert not log.exists() or "Traceback" in log.read_text()


# --- the job


def mined(tmp_path, params):
    """A run context of tiny models, and what was mined for each target of ``parts``."""
    from fade.generation.cache import Cache
    from fade.generation.generator import ImageGenerator
    from fade.models import Base
    from fade.run.resolve_params import parse_params

    params = parse_params({"sampler": {"steps": 2}, **params})
    base = Base.load(str(make_tiny_base(tmp_path / "base")), device="cpu")
    generator = ImageGenerator(base, params.sampler, Cache(tmp_path / "cache"))
    folder = tmp_path / "run"
    folder.mkdir()
    return SimpleNamespace(
        params=params,
        base=base,
        generator=generator,
        folder=folder,
        vocabulary=SimpleNamespace(names=["panda", "cat"]),
    )


def neighborhood(*parts):
    pairs = [SimpleNamespace(target=target, neighbours=neighbours) for target, neighbours in parts]
    said = {
        "target": " + ".join(part.target for part in pairs),
        "targets": [part.target for part in pairs],
        "parts": pairs,
    }
    neighbours = [name for part in pairs for name in part.neighbours]
    return SimpleNamespace(**said, neighbours=neighbours, heldout=["cat"], seed=10, images_per_concept=2)


def test_the_job_holds_the_mined_latents_and_where_they_come_from(tmp_path):
    from safetensors.torch import load_file

    run = mined(tmp_path, {"train": {"seed": 3}})
    around = neighborhood(("panda", ["koala", "bear"]))
    job = write_job(run, around, {"data_md5": "d.dir", "commit": "abc"})
    latents = load_file(str(job.latents))
    assert latents["0.target"].shape == (2, 4, 8, 8)
    assert latents["0.neighbours"].shape == (2, 2, 4, 8, 8)
    drawn = run.generator.generate(["a bear"], [10, 11])["a bear"].latents
    assert (latents["0.neighbours"][1] == drawn).all()
    wanted = {
        "concept",
        "method",
        "variant",
        "neighbours",
        "heldout",
        "base_sha256",
        "params_sha256",
        "seed",
        "data_md5",
        "commit",
    }
    assert set(job.provenance) == wanted
    assert json.loads(job.provenance["heldout"]) == ["cat"]
    assert (job.base_sha256, job.provenance["seed"], job.latents_sha256) == (
        run.base.sha256,
        "3",
        sha256_of(job.latents),
    )
    assert write_job(run, around, {"data_md5": "d.dir", "commit": "abc"}).key() == job.key()


@pytest.mark.parametrize(
    ("method", "ranks"),
    [({"name": "nullspace", "variant": "hinge"}, 2), ({"name": "fade", "variant": "paper"}, 1)],
)
def test_several_targets_get_as_many_steps_each_and_as_many_directions_where_these_are_fixed(
    tmp_path, method, ranks
):
    run = mined(
        tmp_path, {"method": method, "mesh": {"rank": 3, "alpha": 6.0}, "train": {"steps": 7, "warmup": 1}}
    )
    one = write_job(run, neighborhood(("panda", ["koala"])), {})
    two = write_job(run, neighborhood(("panda", ["koala"]), ("tiger", ["lion"])), {})
    assert (one.train.steps, one.mesh.rank, one.mesh.alpha) == (7, 3, 6.0)
    assert (two.train.steps, two.mesh.rank, two.mesh.alpha) == (14, 3 * ranks, 6.0 * ranks)


def test_latents_written_twice_are_the_same_bytes(tmp_path):
    a, b = make_latents(tmp_path / "a.safetensors"), make_latents(tmp_path / "b.safetensors")
    assert sha256_of(a) == sha256_of(b)
