"""Drift over timesteps, the Fréchet distance and the CLIP score, against answers known by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fade.adapters.lora import LoraAdapter
from fade.config import MeshConfig
from fade.errors import BaseModelError, EvaluationError
from fade.evaluation.drift import drift_curve
from fade.evaluation.similarity import clip_scores, frechet_distance, frechet_summary, mean_clip_score
from fade.mining.image_encoder import ImageEncoder
from fade.models.batches import Batches
from fade.models.conditioning import Conditioning
from fade.models.loading import load_model
from tests.support import tiny_tokenizer
from tests.unit.fade.evaluation.test_evaluate import Switch


class Tilted:
    """A base whose null prediction moves by t / 100 in every element while the mesh is on."""

    device, batches = torch.device("cpu"), Batches()

    def __init__(self, lora: Switch) -> None:
        self.mesh, self.calls, self.seen = lora, 0, []  # type: ignore[var-annotated]

    def times_at(self, shares: Tensor) -> Tensor:
        return (shares * 1000).long()

    def encode(self, prompts: list[str]) -> Conditioning:
        assert prompts == ["a blur"]
        return Conditioning(torch.zeros(1, 3, 2))

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        self.seen.append(noise)
        return clean + noise

    def predict(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        self.calls += 1
        assert len(cond) == len(x)
        return x + (t.view(-1, 1, 1, 1) / 100 if self.mesh.on else 0)


def test_the_drift_at_each_timestep_by_hand() -> None:
    lora = Switch()
    base: Any = Tilted(lora)
    curve = drift_curve(base, lora, torch.zeros(3, 4, 2, 2), seed=1, bins=4, negative_prompt="a blur")  # type: ignore[arg-type]
    assert [p["t"] for p in curve] == [125, 375, 625, 875]
    assert [p["drift"] for p in curve] == pytest.approx([1.25**2, 3.75**2, 6.25**2, 8.75**2], rel=1e-5)
    assert base.calls == 2, "one call a model"
    noise = base.seen[0].view(4, 3, 4, 2, 2)
    assert torch.equal(noise[0], noise[3]) and not torch.equal(noise[0, 0], noise[0, 1])


def test_the_batches_of_a_drift_do_not_change_it(tiny_base_dir: Path) -> None:
    base = load_model(str(tiny_base_dir), device="cpu")
    lora = LoraAdapter.insert(base, MeshConfig(rank=2), seed=0)
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    still = drift_curve(base, lora, latents, seed=0, bins=2)
    assert [p["drift"] for p in still] == [0, 0], "a fresh adapter changes nothing"
    for parameter in lora.parameters():
        parameter.data.add_(0.05)
    whole, parted = (drift_curve(base, lora, latents, seed=0, bins=2, batch_size=size) for size in (64, 2))
    assert [p["drift"] for p in whole] == pytest.approx([p["drift"] for p in parted], rel=1e-4)
    assert all(p["drift"] > 0 for p in whole)


def with_moments(mean: list[float], covariance: list[list[float]]) -> Tensor:
    """A sample (40, D) whose mean and covariance are exactly these."""
    x = torch.randn(40, len(mean), generator=torch.Generator().manual_seed(len(mean)), dtype=torch.float64)
    x = x - x.mean(0)
    white = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T).reshape(len(mean), -1))).T
    return white @ torch.linalg.cholesky(torch.tensor(covariance, dtype=torch.float64)).T + torch.tensor(
        mean, dtype=torch.float64
    )


def test_the_frechet_distance_of_gaussians_known_in_closed_form() -> None:
    one = frechet_distance(with_moments([1.0], [[4.0]]), with_moments([4.0], [[25.0]]))
    assert one == pytest.approx(3**2 + (2 - 5) ** 2)
    # Diagonal: the sum over the axes. Not commuting: tr sqrt(M) of a 2x2 M is sqrt(tr M + 2 sqrt(det M)), M =
    # S_1 S_2.
    apart = frechet_distance(with_moments([0, 0], [[1, 0], [0, 9]]), with_moments([1, 2], [[4, 0], [0, 1]]))
    assert apart == pytest.approx(5 + 1 + 4)
    s1, s2 = [[1.0, 0.0], [0.0, 9.0]], [[2.0, 1.0], [1.0, 2.0]]  # tr(S_1 S_2) = 2 + 18, det = 9 * 3
    turned = frechet_distance(with_moments([0, 0], s1), with_moments([0, 0], s2))
    assert turned == pytest.approx(10 + 4 - 2 * math.sqrt(20 + 2 * math.sqrt(27)))


def test_equal_sets_are_at_distance_zero_and_fewer_pictures_than_features_are_no_trouble() -> None:
    few = torch.randn(5, 30, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(few, few + 2) == pytest.approx(30 * 4, rel=1e-6)


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(EvaluationError, match="two pictures a side"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(5, 3))
    with pytest.raises(EvaluationError, match="equal features"):
        frechet_distance(torch.zeros(5, 3), torch.zeros(5, 4))


def test_halves_are_the_even_and_the_odd_seeds_of_every_concept() -> None:
    # One feature; two concepts (at 0 and 10), five seeds of which the last has no partner; odd seeds lie 1
    # higher.
    base = torch.tensor([[0.0, 1, 0, 1, 99], [10, 11, 10, 11, 99]]).unsqueeze(-1)
    found = frechet_summary(base, base + 3)
    assert (found["n"], found["n_half"]) == (10, 4)
    assert found["rest"] == pytest.approx(9)
    assert found["floor"] == pytest.approx(1)  # the same spread, means 5 and 6
    assert found["crossed"] == pytest.approx((4**2 + 2**2) / 2)  # 5 against 9, and 6 against 8
    single = frechet_summary(base[:1, :1], base[:1, :1])
    assert all(math.isnan(single[k]) for k in ("rest", "crossed", "floor"))


def test_the_clip_score_is_100_cos_and_never_negative() -> None:
    turn = torch.tensor([0.0, 60.0, 90.0, 120.0]) * torch.pi / 180
    images, texts = torch.stack([turn.cos(), turn.sin()], 1), torch.tensor([[1.0, 0.0]]).expand(4, -1)
    assert clip_scores(images, texts).tolist() == pytest.approx([100, 50, 0, 0], abs=1e-4)


def test_each_picture_is_scored_with_its_own_prompt() -> None:
    east, north = torch.eye(2)
    pictures = [torch.stack([east, east, north]), north[None]]
    assert mean_clip_score(pictures, torch.stack([east, north])) == pytest.approx(75)


@pytest.fixture(scope="module")
def clip_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPConfig, CLIPModel

    tokenizer = tiny_tokenizer()
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    text = {**tower, **special, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    config = CLIPConfig(
        text_config=text, vision_config={**tower, "image_size": 16, "patch_size": 8}, projection_dim=8
    )
    home = tmp_path_factory.mktemp("clip")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(home)
    tokenizer.save_pretrained(home)
    return home


def test_texts_get_unit_features_that_follow_the_words_alone(clip_dir: Path) -> None:
    encoder = ImageEncoder(str(clip_dir))
    found = encoder.text(["a panda", "a rose", "a panda", "a panda " * 30])
    assert found.shape == (4, 8) and found.norm(dim=1) == pytest.approx([1, 1, 1, 1], abs=1e-5)
    assert torch.equal(found[0], found[2]) and not torch.allclose(found[0], found[1], atol=1e-3)
    assert encoder(np.zeros((2, 16, 16, 3), np.uint8)).shape == (2, 8)


def test_a_clip_without_its_tokenizer_is_refused_at_once(clip_dir: Path, tmp_path: Path) -> None:
    """Mining needs none, but an evaluation does, and comes after the training."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((clip_dir / name).read_bytes())
    with pytest.raises(BaseModelError, match=r"has no tokenizer\.json, no vocab\.json with merges\.txt"):
        ImageEncoder(str(tmp_path))
