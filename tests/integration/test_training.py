"""Training as it is really done: in a process that is killed and resumed, by a launcher, on two processes,
diverging."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from fade.adapters.adapter_file import read_provenance
from fade.adapters.lora import LoraAdapter
from fade.config import MeshConfig
from fade.erasers.base import get_eraser, known_erasers
from fade.errors import DivergedError
from fade.jobs.base import ERROR, JOB
from fade.jobs.train import TrainJob
from fade.jobs.worker import main
from fade.models.loading import load_model
from fade.training import checkpoint
from fade.training import settings as files
from fade.training.batches import BatchSampler, read_latents
from fade.training.denoiser import Denoiser
from fade.training.loop import train
from fade.utils.hashing import sha256_of
from tasks.launch.accelerate import environment
from tests.support import DEEP, make_latents, make_tiny_base
from tests.support import run_training as run_job

NEIGHBOURS = ("koala", "bear", "tiger", "lion", "cat")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_model(str(make_tiny_base(tmp_path_factory.mktemp("base"), **DEEP)), device="cpu")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """The thread count is part of the determinism contract, and two processes share two cores in CI."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_job(base, out, latents=None, **train):
    latents = latents or make_latents(out.parent / "latents.safetensors")
    settings = {
        "steps": 60,
        "warmup": 5,
        "checkpoint_every": 10,
        "precision": "fp32",
        "batch_target": 4,
        "batch_neighbours": 10,
        **train,
    }
    return TrainJob.model_validate(
        {
            "base": base.path,
            "base_sha256": base.sha256,
            "subjects": [{"target": "panda", "neighbours": NEIGHBOURS}],
            "prompt": "a {concept}",
            "latents": latents,
            "latents_sha256": sha256_of(latents),
            "mesh": {"rank": 2, "alpha": 4.0},
            "method": {"name": "fade", "variant": "paper"},
            "train": settings,
            "provenance": {"base_sha256": base.sha256, "concept": "panda"},
            "out": out,
        }
    )


RUN = (
    "import sys, pathlib; from fade.jobs.train import TrainJob; from tests.support import run_training; "
    "run_training(TrainJob.read(pathlib.Path(sys.argv[1])))"
)


def kill_midway(job):
    """Train ``job`` as a flow does, in a process of its own, which is killed -9 as soon as a checkpoint lies
    there."""
    with subprocess.Popen([sys.executable, "-c", RUN, str(job.write())]) as process:
        while not checkpoint.steps_in(job.out / files.CHECKPOINTS):
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        process.kill()


def launched(job, home):
    """Train ``job`` by ``accelerate launch`` of one worker; ``home``: where a user's default_config.yaml
    lies."""
    line = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(home / "none.yaml"),
        "--cpu",
        "--num_processes",
        "1",
    ]
    (home / "none.yaml").write_text("{distributed_type: 'NO', compute_environment: LOCAL_MACHINE}")
    subprocess.run(
        [*line, "--module", "fade.jobs.worker", str(job.write())], env=environment(1, "cpu"), check=True
    )
    return job.out / files.ADAPTER


def test_killed_and_resumed_and_launched_give_the_adapter_of_an_uninterrupted_run(
    base, tmp_path, monkeypatch
):
    """Under a user's default_config.yaml that asks for other things, which must not be read."""
    home = tmp_path / "home"
    (home / "accelerate").mkdir(parents=True)
    hostile = (
        "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nmixed_precision: "
        "fp16\nnum_processes: 3\nuse_cpu: false\n"
    )
    (home / "accelerate" / "default_config.yaml").write_text(hostile)
    monkeypatch.setenv("HF_HOME", str(home))
    whole = run_job(make_job(base, tmp_path / "whole"), base)
    assert (whole.run["processes"], whole.run["resumed_at"], whole.run["threads"]) == (1, 0, 1)
    assert whole.run["precision"] == "no"

    job = make_job(base, tmp_path / "cut", steps=60)
    kill_midway(job)
    kept = checkpoint.steps_in(job.out / files.CHECKPOINTS)
    assert kept
    assert kept[-1] < 60
    assert not (job.out / files.ADAPTER).exists()
    resumed = run_job(job, base)
    assert resumed.run["resumed_at"] == kept[-1]
    assert resumed.adapter.read_bytes() == whole.adapter.read_bytes()
    assert resumed.history == whole.history
    assert run_job(job, base).reused

    by_launcher = launched(
        make_job(base, tmp_path / "launched"), home
    )  # the bytes do not depend on how it was started
    assert by_launcher.read_bytes() == whole.adapter.read_bytes()
    control = train(make_job(base, tmp_path / "control", seed=1), base)
    assert control.read_bytes() != whole.adapter.read_bytes()
    same_in_plain_diffusers(base, resumed.adapter)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_a_gpu_the_same_job_gives_the_same_bytes_and_another_seed_does_not(base, tmp_path, precision):
    first, again, control = (
        run_job(make_job(base, tmp_path / name, precision=precision, seed=seed), device="cuda")
        for name, seed in (("first", 0), ("again", 0), ("control", 1))
    )
    assert first.adapter.read_bytes() == again.adapter.read_bytes()
    assert first.adapter.read_bytes() != control.adapter.read_bytes()


def same_in_plain_diffusers(base, adapter):
    """``load_lora_weights`` of a plain pipeline gives the UNet that Mesh.load gives, alpha != rank
    included."""
    from diffusers import StableDiffusionPipeline

    x, t, e = torch.randn(2, 4, 8, 8), torch.tensor([10, 900]), base.encode(["a panda", "a cat"])
    original = base.predict(x, t, e)
    lora = LoraAdapter.load(base, adapter)
    erased = base.predict(x, t, e)
    lora.remove()
    pipe = StableDiffusionPipeline.from_pretrained(
        base.path, safety_checker=None, requires_safety_checker=False
    )
    pipe.load_lora_weights(str(adapter.parent), weight_name=adapter.name)
    plain = pipe.unet(x, t, encoder_hidden_states=e.tokens).sample
    assert torch.equal(plain, erased)
    assert not torch.equal(plain, original)


METHODS = [
    (name, variant, anchors)
    for name, variants in known_erasers().items()
    for variant in variants
    for anchors in ("none", "neighbourhood")
    if anchors == "none" or get_eraser(name, variant).accepts_anchors
]


@pytest.mark.parametrize(("name", "variant", "anchors"), METHODS)
def test_every_method_gives_the_same_bytes_twice_and_an_adapter_that_has_an_effect(
    base, tmp_path, name, variant, anchors
):
    method = get_eraser(name, variant)
    lora = next(
        (
            item.partition("=")[2].strip("[]").split(",")
            for item in method.settings
            if item.startswith("mesh.targets")
        ),
        None,
    )
    changed = {
        "method": {"name": name, "variant": variant, "anchors": anchors},
        "mesh": {"rank": 16, "alpha": 16.0},
    }
    changed["mesh"] |= {"targets": lora} if lora else {}

    def made(out, seed=0):
        plain = make_job(base, tmp_path / out, steps=3, warmup=1, seed=seed)
        return train(TrainJob.model_validate({**plain.model_dump(), **changed}), base)

    one, two, other = made("one"), made("two"), made("other", seed=1)
    assert one.read_bytes() == two.read_bytes()
    assert (one.read_bytes() == other.read_bytes()) == method.seedless
    LoraAdapter.load(base, one).remove()  # fails for an adapter without an effect
    layers = {key.removeprefix("unet.").rsplit(".lora_", 1)[0] for key in load_file(one)}
    assert layers == set(base.layers(tuple(lora or MeshConfig().targets)))


def test_two_processes_are_two(base, tmp_path):
    job = make_job(base, tmp_path / "two", processes=2, steps=4, checkpoint_every=2)
    trained = run_job(job)
    assert trained.run["processes"] == 2
    assert trained.run["effective_batch"] == {"target": 8, "neighbours": 20}
    assert read_provenance(trained.adapter)["concept"] == "panda"
    # The first row's loss is the mean over both ranks' batches, which rank 0 alone would not give.
    lora = LoraAdapter.insert(base, job.mesh, seed=job.train.seed)
    try:
        draws, predictor = BatchSampler(job, base, read_latents(job)), Denoiser(base.denoiser, lora)
        loss = get_eraser("fade", "paper").loss
        losses = [loss(predictor, draws.batch(0, 0, rank, 2), job.method)[0].item() for rank in (0, 1)]
    finally:
        lora.remove()
    assert trained.history[0]["loss"] == pytest.approx(sum(losses) / 2, rel=1e-5)
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


def test_divergence_stops_with_its_own_error_and_keeps_the_last_good_checkpoint(base, tmp_path):
    """One of the target's latents is finite but so large that the UNet overflows; it is first drawn after a
    checkpoint."""
    latents = make_latents(tmp_path / "latents.safetensors", m=64)
    job = make_job(base, tmp_path / "out", latents, batch_target=1, checkpoint_every=4, steps=200)
    draws = BatchSampler(job, base, read_latents(job))
    order = [int(draws.indices(step, 0, 0, 1)[0]) for step in range(200)]
    step = next(s for s in range(6, 200) if order[s] not in order[:s])
    tensors = load_file(str(latents))
    tensors["0.target"][order[step]] = 1e30
    assert bool(torch.isfinite(tensors["0.target"]).all())
    save_file(tensors, str(latents))
    with pytest.raises(
        DivergedError, match=f"diverged at step {step + 1}:.*checkpoint of step {step // 4 * 4} is kept"
    ):
        run_job(make_job(base, tmp_path / "out", latents, batch_target=1, checkpoint_every=4, steps=200))
    assert checkpoint.steps_in(tmp_path / "out" / files.CHECKPOINTS)[-1] == step // 4 * 4
    assert not (tmp_path / "out" / files.ADAPTER).exists()
    assert main([str(tmp_path / "out" / JOB)]) == 1  # a worker writes it down for the process that waits
    assert json.loads((tmp_path / "out" / ERROR).read_text())["type"] == "DivergedError"
