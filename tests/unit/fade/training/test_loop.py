"""Training: draws named by the step, the rate, resume, divergence, and every job that must be refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from fade.adapters.adapter_file import read_provenance
from fade.adapters.lora import LoraAdapter
from fade.config import TrainConfig
from fade.erasers import base as methods
from fade.erasers import fade
from fade.errors import (
    BaseModelError,
    BusyError,
    DataError,
    DivergedError,
    JobError,
    TrainingError,
    UsageError,
    revive,
)
from fade.jobs.base import ERROR, JOB
from fade.jobs.train import TrainJob
from fade.jobs.worker import main
from fade.models.loading import load_model
from fade.training import checkpoint, loop
from fade.training import settings as files
from fade.training.batches import BatchSampler, latent_names, rate, read_latents
from fade.training.loop import train
from fade.utils.files import write_json
from fade.utils.hashing import sha256_of
from fade.utils.locks import lock_folder
from fade.utils.parent import PARENT
from tests.support import make_latents, make_tiny_base

NEIGHBOURS = ("koala", "bear", "tiger", "lion", "cat")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_model(str(make_tiny_base(tmp_path_factory.mktemp("base"))), device="cpu")


@pytest.fixture
def make_job(base, tmp_path):
    def make(name="out", latents=None, **changes):
        latents = latents or make_latents(tmp_path / "latents.safetensors")
        settings = {
            "steps": 6,
            "warmup": 2,
            "checkpoint_every": 2,
            "precision": "fp32",
            "batch_target": 2,
            "batch_neighbours": 5,
        }
        settings.update(changes.pop("train", {}))
        fields = {
            "base": base.path,
            "base_sha256": base.sha256,
            "subjects": changes.pop(
                "subjects",
                [
                    {
                        "target": changes.pop("target", "panda"),
                        "neighbours": changes.pop("neighbours", NEIGHBOURS),
                    }
                ],
            ),
            "prompt": "a {concept}",
            "latents": latents,
            "latents_sha256": sha256_of(latents),
            "mesh": {"rank": 2, "alpha": 4.0},
            "method": {"name": "fade", "variant": "paper"},
            "train": settings,
            "provenance": {"base_sha256": base.sha256, "concept": "panda", "commit": "abc"},
            "out": tmp_path / name,
        }
        return TrainJob.model_validate({**fields, **changes})

    return make


def draws_of(job, base):
    return BatchSampler(job, base, read_latents(job))


def test_warmup_then_decay_to_zero():
    config = TrainConfig(steps=10, warmup=4, lr=0.1)
    assert [round(rate(s, config), 10) for s in range(10)] == [
        0.025,
        0.05,
        0.075,
        0.1,
        0.1,
        *(round(0.1 * k / 6, 10) for k in (5, 4, 3, 2, 1)),
    ]
    assert [round(rate(s, TrainConfig(steps=4, warmup=9, lr=0.9)), 10) for s in range(4)] == [
        0.1,
        0.2,
        0.3,
        0.4,
    ]
    assert [round(rate(s, config, "ramp"), 10) for s in range(10)] == [
        round(0.01 * (s + 1), 10) for s in range(10)
    ]
    assert {rate(s, config, "constant") for s in range(10)} == {0.1}
    assert rate(0, TrainConfig(steps=1, warmup=0, lr=0.5)) == 0.5


def test_a_batch_depends_on_seed_step_micro_and_rank_and_on_nothing_else(base, make_job):
    draws = draws_of(make_job(), base)
    torch.manual_seed(1)
    first = draws.batch(3, 1, 1, 2)
    torch.manual_seed(2)
    again = draws_of(make_job(), base).batch(3, 1, 1, 2)
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.x_adj, again.x_adj)
    assert torch.equal(first.t, again.t)
    for other in (draws.batch(4, 1, 1, 2), draws.batch(3, 0, 1, 2), draws.batch(3, 1, 0, 2)):
        assert not torch.equal(first.x, other.x)
    assert not torch.equal(first.x, draws_of(make_job(train={"seed": 1}), base).batch(3, 1, 1, 2).x)


def test_a_batch_is_the_noised_latents_of_what_it_says(base, make_job):
    """With noise known, x_t = sqrt(abar) x_0 + sqrt(1 - abar) n is checked against the stored latents."""
    job = make_job(train={"batch_neighbours": 7})
    draws = draws_of(job, base)
    ((target, neighbours),) = read_latents(job)
    batch = draws.batch(2)
    picked, which, shown, generator = draws.indices(2, 0, 0, 1)
    t = torch.randint(1000, (9,), generator=generator)
    noise = torch.randn(9, 4, 8, 8, generator=generator)
    abar = base.scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
    clean = torch.cat([target[picked], neighbours[which, shown]])
    assert torch.allclose(
        torch.cat([batch.x, batch.x_adj]), abar.sqrt() * clean + (1 - abar).sqrt() * noise, atol=1e-6
    )
    assert torch.equal(torch.cat([batch.t, batch.t_adj]), t)
    assert torch.equal(batch.which, which)
    assert torch.equal(batch.target.tokens, base.encode(["a panda"]).tokens)
    assert torch.equal(batch.null.tokens, base.encode([""]).tokens)
    assert torch.equal(batch.neighbours.tokens, base.encode([f"a {n}" for n in NEIGHBOURS]).tokens)


def test_random_embeddings_are_drawn_last_and_only_for_a_method_that_asks(base, make_job):
    plain = draws_of(make_job(), base).batch(2)
    batch = draws_of(make_job(method={"name": "spm", "variant": "latent-anchoring"}), base).batch(2)
    tokens = batch.extra["random"].tokens
    assert plain.extra == {} and tokens.shape == (2, *batch.target.tokens.shape[1:])
    assert all(
        torch.equal(getattr(plain, name), getattr(batch, name))
        for name in ("x", "t", "x_adj", "t_adj", "which")
    )
    again = draws_of(make_job("again", method={"name": "spm", "variant": "latent-anchoring"}), base)
    assert torch.equal(again.batch(2).extra["random"].tokens, tokens)
    assert not torch.equal(again.batch(3).extra["random"].tokens, tokens)
    assert not torch.equal(tokens[0], tokens[1])


@pytest.mark.parametrize(("n_a", "world", "accumulation"), [(10, 1, 1), (7, 1, 1), (3, 2, 1), (4, 2, 3)])
def test_neighbours_take_turns(base, make_job, n_a, world, accumulation):
    draws = draws_of(
        make_job(train={"batch_neighbours": n_a, "gradient_accumulation": accumulation, "processes": world}),
        base,
    )
    counts = torch.zeros(5, dtype=torch.long)
    for step in range(5):
        for micro in range(accumulation):
            for rank in range(world):
                counts += draws.indices(step, micro, rank, world)[1].bincount(minlength=5)
    assert len(set(counts.tolist())) == 1, counts


def test_several_targets_take_turns_each_with_its_own_neighbours(base, make_job, tmp_path):
    """The second target's batches are those that it would have had alone, under the numbers of the steps that
    it gets."""
    path = tmp_path / "two.safetensors"
    one, two = (
        load_file(make_latents(tmp_path / f"{i}.safetensors", k=k, seed=i)) for i, k in enumerate((5, 2))
    )
    save_file({**one, **{name.replace("0.", "1."): value for name, value in two.items()}}, path)
    subjects = [
        {"target": "panda", "neighbours": NEIGHBOURS},
        {"target": "tulip", "neighbours": ["rose", "cat"]},
    ]
    draws = draws_of(make_job(latents=path, subjects=subjects), base)
    alone = draws_of(make_job(latents=tmp_path / "0.safetensors"), base)
    for step in range(4):
        name, others = ("panda", 5) if step % 2 == 0 else ("tulip", 2)
        assert (
            torch.equal(draws.batch(step).target.tokens, base.encode([f"a {name}"]).tokens)
            and len(draws.batch(step).neighbours) == others
        )
    assert torch.equal(draws.batch(0).x, alone.batch(0).x) and not torch.equal(
        draws.batch(1).x, alone.batch(1).x
    )
    assert [int(i) for step in (1, 3) for i in draws.batch(step).which] == [
        0,
        1,
        0,
        1,
        0,
        1,
        0,
        1,
        0,
        1,
    ]  # 5 a step, in turn over both
    assert [len(batch.neighbours) for batch in draws.one_each()] == [5, 2]
    assert train(make_job(latents=path, subjects=subjects), base).exists()


def test_timesteps_cover_the_whole_schedule(base, make_job):
    draws = draws_of(make_job(train={"batch_target": 64}), base)
    t = torch.cat([draws.batch(step).t for step in range(60)])
    assert int(t.min()) < 5
    assert int(t.max()) > 994
    assert int(t.max()) <= 999
    assert 470 < float(t.float().mean()) < 530


def test_training_changes_the_adapter_and_leaves_the_base_alone(base, make_job):
    before = {k: v.clone() for k, v in base.denoiser.state_dict().items()}
    job = make_job()
    seen = []
    path = train(job, base, seen.append, lambda news: write_json(job.out / "progress.json", news))
    assert list(base.denoiser.state_dict()) == list(before)
    assert all(torch.equal(v, before[k]) for k, v in base.denoiser.state_dict().items())
    history = json.loads((job.out / files.HISTORY).read_text())
    assert history == seen
    assert [row["step"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert set(history[0]) == {"step", "loss", "erase", "adjacency", "guidance", "lr", "grad_norm"}
    done = json.loads((job.out / files.DONE).read_text())
    assert done["adapter_sha256"] == sha256_of(path)
    assert done["key"] == job.key()
    assert read_provenance(path)["concept"] == "panda"
    progress = json.loads((job.out / "progress.json").read_text())
    assert (progress["step"], progress["steps"]) == (6, 6)
    LoraAdapter.load(base, path).remove()  # loads, is active, has an effect


def test_the_loss_falls(base, make_job):
    """Adjacency off and the margin high: what is left is to pull the target to its neighbours, which a LoRA
    can do."""
    method = {
        "name": "fade",
        "variant": "paper",
        "margin": 10.0,
        "adjacency_weight": 0.0,
        "erase_weight": 10.0,
    }
    train(job := make_job(method=method, train={"steps": 20, "lr": 0.02, "checkpoint_every": 100}), base)
    erase = [row["erase"] for row in json.loads((job.out / files.HISTORY).read_text())]
    assert sum(erase[-5:]) < sum(erase[:5])


def test_the_same_job_gives_the_same_bytes_and_another_seed_does_not(base, make_job):
    torch.manual_seed(1)
    one = sha256_of(train(make_job("one"), base))
    torch.manual_seed(2)
    assert sha256_of(train(make_job("two"), base)) == one
    assert sha256_of(train(make_job("three", train={"seed": 1}), base)) != one


class Stop(Exception):
    """Stands for a kill between two steps."""


def test_a_resumed_training_gives_the_bytes_of_an_uninterrupted_one(base, make_job):
    whole = train(make_job("whole"), base).read_bytes()
    job = make_job("cut")

    def stop(row):
        if row["step"] == 5:
            raise Stop

    with pytest.raises(Stop):
        train(job, base, stop)
    assert checkpoint.steps_in(job.out / files.CHECKPOINTS) == [2, 4]
    seen = []
    assert train(job, base, seen.append).read_bytes() == whole
    assert [row["step"] for row in seen] == [5, 6]
    assert json.loads((job.out / files.DONE).read_text())["run"]["resumed_at"] == 4
    assert (job.out / files.HISTORY).read_bytes() == (make_job("whole").out / files.HISTORY).read_bytes()


def test_the_moments_matter_for_a_resume(base, make_job):
    """A control of the test above: a resume that forgot AdamW's moments must be noticed."""
    whole = train(make_job("whole"), base).read_bytes()
    job = make_job("cut")

    def stop(row):
        if row["step"] == 5:
            raise Stop

    with pytest.raises(Stop):
        train(job, base, stop)
    path = checkpoint.path_of(job.out / files.CHECKPOINTS, 4)
    from safetensors import safe_open

    with safe_open(str(path), "pt") as file:
        metadata = file.metadata()
        state = {k: file.get_tensor(k) * (0 if k.startswith("exp_avg/") else 1) for k in file.keys()}  # noqa: SIM118
    save_file(state, path, metadata=metadata)
    assert train(job, base).read_bytes() != whole


def test_checkpoints_keep_the_last_two_and_hold_no_pickle(base, make_job):
    job = make_job(train={"steps": 9, "checkpoint_every": 2})
    train(job, base)
    folder = job.out / files.CHECKPOINTS
    assert [p.name for p in sorted(folder.iterdir())] == [
        "step-00000006.safetensors",
        "step-00000008.safetensors",
    ]


@pytest.mark.parametrize("damage", ["truncated", "foreign"])
def test_a_checkpoint_that_does_not_fit_is_refused(base, make_job, damage):
    job = make_job(train={"steps": 3, "checkpoint_every": 2})
    train(job, base)
    path = checkpoint.path_of(job.out / files.CHECKPOINTS, 2)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        job = make_job(train={"steps": 3, "checkpoint_every": 2, "seed": 7})
    with pytest.raises(TrainingError, match=r"step-00000002\.safetensors") as error:
        train(job, base)
    assert str(path) in error.value.action
    assert path.exists()


def test_accumulated_micro_batches_are_one_step_over_their_mean(base, make_job):
    """Loss and adapter of accumulation 2, against AdamW on the averaged gradient of the two batches computed
    by hand."""
    from fade.training.denoiser import Denoiser

    job = make_job(
        train={"steps": 1, "warmup": 0, "gradient_accumulation": 2, "lr": 0.01, "max_grad_norm": 1e9}
    )
    train(job, base)
    row = json.loads((job.out / files.HISTORY).read_text())[0]
    lora = LoraAdapter.insert(base, job.mesh, seed=0)
    try:
        adamw = torch.optim.AdamW(lora.parameters(), lr=0.01, weight_decay=job.train.weight_decay)
        draws, predictor = draws_of(job, base), Denoiser(base.denoiser, lora)
        loss = (
            sum(
                methods.get_eraser("fade", "paper").loss(predictor, draws.batch(0, m), job.method)[0]
                for m in (0, 1)
            )
            / 2
        )
        loss.backward()
        adamw.step()
        assert row["loss"] == pytest.approx(loss.item(), rel=1e-5)
        trained = LoraAdapter.load(load_model(base.path, device="cpu"), job.out / files.ADAPTER).state_dict()
        for name, value in lora.state_dict().items():
            assert torch.allclose(trained[name], value, atol=2e-3), (
                name
            )  # Adam's first step is a sign: rounding may flip a tiny one
        close = torch.cat([(trained[n] - v).abs().flatten() for n, v in lora.state_dict().items()])
        assert float((close < 1e-5).float().mean()) > 0.98
    finally:
        lora.remove()


@pytest.fixture
def broken_method():
    """A registered method whose loss is not finite, or explodes, from its sixth call on."""
    calls = []

    def loss(eps, batch, config):
        value, terms = methods.get_eraser("fade", "paper").loss(eps, batch, config)
        calls.append(1)
        return (value * config.margin if len(calls) >= 6 else value), terms

    method = methods.Eraser("broken", "test", "tests", fade.Config, loss, requires_neighbours=True)
    methods.register(method)
    yield
    methods._ERASERS.pop(("broken", "test"))


@pytest.mark.parametrize(("factor", "reason"), [(1e38, "loss is|grad_norm is"), (1e6, "the loss rose")])
def test_divergence_stops_and_keeps_the_last_good_checkpoint(base, make_job, broken_method, factor, reason):
    job = make_job(
        method={"name": "broken", "variant": "test", "margin": factor, "erase_weight": 1.0},
        train={"steps": 20, "checkpoint_every": 2},
    )
    with pytest.raises(DivergedError, match=reason) as error:
        train(job, base)
    assert "step 6" in str(error.value)
    assert "checkpoint of step 4 is kept" in str(error.value)
    assert checkpoint.steps_in(job.out / files.CHECKPOINTS) == [2, 4]
    assert not (job.out / files.ADAPTER).exists()
    assert not any("lora" in name for name, _ in base.denoiser.named_modules())


def test_the_number_of_processes_is_asserted(base, make_job):
    with pytest.raises(TrainingError, match=r"1 process\(es\) started where train.processes = 2"):
        train(make_job(train={"processes": 2}), base)


def test_a_method_that_needs_neighbours_gets_some(base, make_job):
    with pytest.raises(TrainingError, match="needs neighbours"):
        train(make_job(neighbours=()), base)


def test_another_base_is_refused(base, make_job):
    with pytest.raises(BaseModelError, match="the job was written for ffff"):
        train(make_job(base_sha256="f" * 64), base)


def bad(tmp_path, target, neighbours, name):
    path = tmp_path / name
    save_file(dict(zip(latent_names(0), (target, neighbours), strict=True)), path)
    return path


def test_latents_that_are_not_what_the_job_says_are_refused(base, make_job, tmp_path):
    good_t, good_n = torch.randn(3, 4, 8, 8), torch.randn(5, 3, 4, 8, 8)
    nan = good_t.clone()
    nan[1, 2, 3, 4] = float("nan")
    for i, (t, n, match) in enumerate(
        [
            (good_t, good_n[:4], "wrong shapes"),
            (good_t[0], good_n, "wrong shapes"),
            (good_t[:0], good_n, "wrong shapes"),
            (nan, good_n, "not finite"),
        ]
    ):
        with pytest.raises(DataError, match=match):
            train(make_job(latents=bad(tmp_path, t, n, f"{i}.safetensors")), base)
    changed = make_job(latents=bad(tmp_path, good_t, good_n, "changed.safetensors"))
    bad(tmp_path, good_t + 1, good_n, "changed.safetensors")
    with pytest.raises(DataError, match="sha256"):
        train(changed, base)
    changed.latents.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        train(changed, base)


def test_two_trainers_do_not_share_a_folder(base, make_job, monkeypatch):
    job = make_job()
    monkeypatch.setattr(loop, "PATIENCE", 0.0)
    busy = f"{job.out} is being written by process {os.getpid()}"
    with lock_folder(job.out, "x", "train", name=".trainer.lock"), pytest.raises(BusyError, match=busy):
        train(job, base)
    train(job, base)


def test_an_orphan_stops(base, make_job, monkeypatch):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    monkeypatch.setenv(PARENT, str(child.pid))
    with pytest.raises(TrainingError, match="is gone"):
        train(make_job(), base)
    monkeypatch.setenv(PARENT, str(os.getpid()))
    train(make_job(), base)


def test_the_key_is_of_content_not_of_places(make_job, tmp_path):
    job = make_job()
    assert (
        make_job(
            "elsewhere", base="/another/place", train={"deadline_seconds": 1.0, "checkpoint_every": 99}
        ).key()
        == job.key()
    )
    assert make_job(provenance={**job.provenance, "commit": "def"}).key() == job.key()
    changes = [
        {"target": "cat"},
        {"train": {"lr": 0.5}},
        {"mesh": {"rank": 3}},
        {"latents_sha256": "0" * 64},
        {"provenance": {"concept": "x"}},
    ]
    keys = {make_job(**change).key() for change in changes}
    assert len(keys | {job.key()}) == len(changes) + 1


def test_a_job_survives_its_file(make_job):
    job = make_job()
    path = job.write()
    assert TrainJob.read(path) == job
    assert json.loads(path.read_text())["key"] == job.key()


@pytest.mark.parametrize("component", [*files.CODE, "erasers", "erasers/fade"])
def test_the_key_covers_the_trainers_code(make_job, monkeypatch, component):
    before = make_job().key()
    told = files.code_sha256

    def changed(*components):
        assert component in components
        return told(*components) + "changed"

    monkeypatch.setattr(files, "code_sha256", changed)
    assert make_job().key() != before


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "cannot be read"),
        ("{", "is no JSON"),
        ("[]", "is no JSON"),
        ('{"base": 1}', "Field required"),
        ("change", "train.lr|lr"),
    ],
)
def test_a_job_file_that_is_none_is_refused(make_job, tmp_path, text, match):
    path = tmp_path / "bad.json"
    if text == "change":
        content = json.loads(make_job().write().read_text())
        content["train"]["lr"] = 5
        text = json.dumps(content)
    if text is not None:
        path.write_text(text)
    with pytest.raises(JobError, match=match) as error:
        TrainJob.read(path)
    assert str(path) in str(error.value)


def test_the_command_writes_its_error_for_the_one_who_waits(tmp_path, capsys):
    assert main([]) == 2
    assert main([str(tmp_path / JOB)]) == 1
    told = json.loads((tmp_path / ERROR).read_text())
    error = revive(told["type"], told["what"], told["stage"], told["action"])
    assert type(error) is JobError
    assert str(error) in capsys.readouterr().err


NULLSPACE = {
    "method": {"name": "nullspace", "variant": "guidance"},
    "mesh": {"rank": 1, "targets": ["attn2.to_k", "attn2.to_v"]},
}


def test_a_method_with_a_space_trains_the_up_projections_alone(base, make_job):
    job = make_job(**NULLSPACE, heldout=("tiger",))
    state = load_file(train(job, base))
    wanted = methods.get_eraser("nullspace", "guidance").space(draws_of(job, base).one_each(), 1, job.method)
    for name, value in state.items():
        assert torch.equal(value, wanted) if ".lora_A." in name else value.abs().max() > 0, name


def test_words_are_drawn_without_what_is_judged_and_only_for_who_asks(base, make_job):
    """The tiny tokenizer knows the names of animals: the target, and those that the job calls unseen, are
    never said."""
    encoded = []

    class Listening:
        def __getattr__(self, name):
            return getattr(base, name)

        def encode(self, prompts):
            encoded.extend(prompts)
            return base.encode(prompts)

    job = make_job(**NULLSPACE, heldout=("tiger", "lion"))
    batch = draws_of(job, Listening()).one_each()[0]
    assert (
        len(batch.extra["language"]) > 2
        and len(batch.extra["phrasings"]) == 4
        and torch.equal(batch.extra["phrasings"].tokens[:1], batch.target.tokens)
    )
    spoken = encoded[-len(batch.extra["language"]) - 3 : -3]
    assert not {"a panda", "a tiger", "a lion"} & set(spoken) and "a koala" in spoken
    plain = draws_of(make_job("plain"), base).one_each()[0]
    assert plain.extra == {}


def test_a_job_is_read_by_a_process_that_has_imported_nothing_else(make_job, repo):
    path = make_job().write()
    code = "from pathlib import Path; from fade.jobs.train import TrainJob; "
    code += f"print(TrainJob.read(Path({str(path)!r})).key())"
    done = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True)
    assert done.stdout.strip() == make_job().key(), done.stderr


def test_the_knobs_of_other_methods_are_in_no_key(make_job):
    weights = ({"margin": 0.25}, {"identity_weight": 9.0})
    own, other = (make_job(method={"name": "fade", "variant": "paper", **some}).key() for some in weights)
    assert own != make_job().key() == other


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"target": "cat 猫", "neighbours": ("koala", "cat 犬")}, "cannot tell apart 'cat 猫', 'cat 犬'"),
        ({"target": "猫", "neighbours": ("koala", "bear")}, "knows no character of '猫'"),
        ({"target": "cat " * 13 + "dog", "neighbours": ("koala", "bear")}, "longer than the 16 tokens"),
        ({"neighbours": ("koala", "cat " * 13 + "dog")}, "longer than the 16 tokens"),
    ],
)
def test_no_adapter_is_trained_on_another_concepts_embedding(base, make_job, tmp_path, changes, sentence):
    """Whoever wrote the job, and wherever it runs."""
    latents = make_latents(tmp_path / "two.safetensors", k=2)
    job = make_job(latents=latents, **changes)
    with pytest.raises(UsageError, match=sentence) as caught:
        train(job, base)
    assert caught.value.exit_code == 2 and not (job.out / files.ADAPTER).exists()
    train(make_job("control", latents=latents, neighbours=("koala", "bear")), base)


def test_a_phrasing_that_is_cut_is_refused(base, make_job):
    """The target in its own prompt is read whole, in a longer one of the method's it is not."""
    job = make_job(target="cat " * 12 + "dog", method={"name": "nullspace", "variant": "hinge"})
    with pytest.raises(UsageError, match="longer than the 16 tokens"):
        train(job, base)
