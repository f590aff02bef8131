"""The training's job: the mined latents, where they come from, and what several targets change."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from fade.config import Params
from fade.training.settings import ADAPTER, DONE
from fade.utils import progress
from fade.utils.files import write_json
from fade.utils.hashing import sha256_of
from tasks.stages.train import train_job, write_job
from tests.datasets import make_dataset
from tests.support import bare_job, make_latents, make_tiny_base


def mined(tmp_path, params):
    """A run context of tiny models, and what was mined for each target of ``parts``."""
    from fade.generation.cache import Cache
    from fade.generation.generator import ImageGenerator
    from fade.models.loading import load_model
    from fade.run.resolve_params import parse_params

    params = parse_params({"sampler": {"steps": 2}, **params})
    base = load_model(str(make_tiny_base(tmp_path / "base")), device="cpu")
    generator = ImageGenerator(base, params.sampler, Cache(tmp_path / "cache"))
    folder = tmp_path / "run"
    folder.mkdir()
    return SimpleNamespace(
        params=params,
        models=SimpleNamespace(base=base),
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
        run.models.base.sha256,
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


def test_the_targets_own_pictures_follow_the_mined_ones_where_a_method_uses_them(tmp_path):
    from safetensors.torch import load_file

    from fade.mining.real_pictures import real_latents

    method = {"name": "adversarial", "variant": "embedding"}
    run = mined(tmp_path, {"method": method, "data": {"images": "pictures"}})
    run.root = tmp_path
    make_dataset(tmp_path / "pictures", size=64)
    run.vocabulary.names = ["panda", "koala", "tulip", "rose"]
    job = write_job(run, neighborhood(("panda", ["koala"])), {})
    target = load_file(str(job.latents))["0.target"]
    real = real_latents(run.models.base, tmp_path / "pictures", ["panda"])["panda"]
    assert len(target) == 2 + len(real) and len(real) == 2 and torch.equal(target[2:], real)
    run.params = run.params.model_copy(update={"method": Params().method})
    assert (
        load_file(str(write_job(run, neighborhood(("panda", ["koala"])), {}).latents))["0.target"].shape[0]
        == 2
    )
    assert job.heldout == ("tulip", "rose")  # no word of the training names them


def test_latents_written_twice_are_the_same_bytes(tmp_path):
    a, b = make_latents(tmp_path / "a.safetensors"), make_latents(tmp_path / "b.safetensors")
    assert sha256_of(a) == sha256_of(b)


def test_a_finished_training_is_reported_once(tmp_path):
    params = Params()
    base, self_tests = SimpleNamespace(device=torch.device("cpu")), SimpleNamespace(measured={})
    run = SimpleNamespace(params=params, models=SimpleNamespace(base=base, self_tests=self_tests))
    job = bare_job(tmp_path / "out")
    job.write()
    (job.out / ADAPTER).write_bytes(b"adapter")
    done = {"key": job.key(), "adapter_sha256": sha256_of(job.out / ADAPTER), "run": {"processes": 1}}
    write_json(job.out / DONE, done)
    news = []
    with progress.on_progress(lambda *row: news.append(row)):
        assert train_job(run, job).reused
    assert news == [("train", job.train.steps, job.train.steps, "trained before")]


@pytest.mark.parametrize(
    ("variant", "family", "broader"),
    [
        ("broader", "bears", "bears"),
        ("broader", "cat", ""),  # a concept itself, which is judged
        ("broader", "", ""),
        ("nearest", "bears", ""),  # it has no use for one
    ],
)
def test_a_broader_concept_is_the_family_unless_it_is_judged(tmp_path, variant, family, broader):
    run = mined(tmp_path, {"method": {"name": "ablation", "variant": variant}})
    run.vocabulary.family = lambda target: family
    job = write_job(run, neighborhood(("panda", ["koala", "bear"])), {"data_md5": "d.dir", "commit": "abc"})
    assert [subject.family for subject in job.subjects] == [broader]
