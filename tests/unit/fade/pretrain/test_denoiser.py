"""One loop trains the denoiser of every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fade.config import AutoencoderConfig, DenoiserConfig, TextConfig
from fade.errors import DataError
from fade.judges.supervised_loop import Training
from fade.models.families import known_families
from fade.pretrain import autoencoder, denoiser, text
from fade.pretrain.captions import Scene, Thing, words_of
from fade.pretrain.families import FAMILIES, Widths
from fade.pretrain.tokenizer import build_t5_tokenizer
from tests.unit.fade.pretrain.support import NAMES, STYLES, sampler, tokenizer

TOWER = TextConfig(steps=1, batch_size=1, lr=0.1, hidden=16, layers=2, heads=2, activation="gelu")
SMALL = DenoiserConfig(
    steps=30, batch_size=8, lr=3e-3, ema=0.5, channels=(16, 16), layers=2, width=32, heads=2
)
CODEC = AutoencoderConfig(steps=1, batch_size=1, lr=0.1, channels=(4, 4, 8, 8), latent_channels=4)


def make(family: str, folder: Path) -> Any:
    """An untrained model of the family."""
    from transformers import CLIPTextModel, T5TokenizerFast

    chosen = FAMILIES[family]
    words = tokenizer(folder / "words")
    parts: dict[str, Any] = {"vae": autoencoder.build(CODEC).eval(), "scheduler": chosen.scheduler()}
    for name, stage in chosen.texts.items():
        if stage == "t5":
            build_t5_tokenizer(words_of(NAMES, STYLES), 28, folder / "t5")
            parts["tokenizer_3"] = T5TokenizerFast.from_pretrained(folder / "t5")
            parts[name] = text.build_t5(TOWER.model_copy(update={"hidden": 32}), parts["tokenizer_3"])
            continue
        parts[name.replace("text_encoder", "tokenizer")] = words
        tower: Any = text.build_clip(TOWER, words)
        parts[name] = CLIPTextModel(tower.config) if family == "sd" else tower
    n = len(chosen.texts)
    widths = {1: Widths(4, 16, 0), 2: Widths(4, 32, 16), 3: Widths(4, 32, 32)}[n]
    parts[chosen.part] = chosen.denoiser(SMALL, widths)
    return known_families()[chosen.pipeline]("x", parts, "", torch.device("cpu"), dict(chosen.index))


def bank(model: Any) -> denoiser.Bank:
    torch.manual_seed(3)
    return denoiser.encode_bank(model.vae, sampler(), 24, seed=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_trained_towards_its_own_target(tmp_path: Path, family: str) -> None:
    torch.manual_seed(0)
    model = make(family, tmp_path)
    logs: list[dict[str, float]] = []
    training = Training(tmp_path / "run", 0, lambda step, steps, found: logs.append(found))
    denoiser.train(model, bank(model), SMALL, training)
    losses = [found["loss"] for found in logs]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert not any(parameter.requires_grad for parameter in model.denoiser.parameters())


def test_extra_pairs_are_scenes_of_two_things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(share: float) -> list[bool]:
        found: list[bool] = []

        def caption(scene: Scene, generator: torch.Generator, *shares: float) -> str:
            found.append(len(scene.things) == 2)
            return "a panda"

        monkeypatch.setattr(denoiser, "caption", caption)
        torch.manual_seed(0)
        model = make("sd", tmp_path)
        settings = {"steps": 3, "dropped_captions": 0.0, "extra_pairs": share}
        denoiser.train(
            model, bank(model), SMALL.model_copy(update=settings), Training(tmp_path / str(share), 0)
        )
        return found

    usual, only = shown(0.0), shown(1.0)
    assert all(only) and len(only) == len(usual) == 3 * SMALL.batch_size and not all(usual)


def test_a_bank_without_pairs_has_no_extra_ones(tmp_path: Path) -> None:
    model = make("sd", tmp_path)
    single = denoiser.Bank(torch.zeros(1, 4, 8, 8), [Scene((Thing("red ball"),))])
    config = SMALL.model_copy(update={"extra_pairs": 0.1})
    with pytest.raises(DataError, match=r"no scene of two things.*pretrain\.scenes\.pair"):
        denoiser.train(model, single, config, Training(tmp_path / "run", 0))


def test_a_bank_depends_on_its_seed_and_comes_back_from_its_folder(tmp_path: Path) -> None:
    vae = autoencoder.build(CODEC).eval()
    one, two, other = (denoiser.encode_bank(vae, sampler(), 70, seed) for seed in (1, 1, 2))
    assert torch.equal(one.latents, two.latents) and one.scenes == two.scenes
    assert one.scenes != other.scenes and len(one.scenes) == len(one.latents) == 70
    one.save(tmp_path)
    back = denoiser.Bank.load(tmp_path)
    assert torch.equal(back.latents, one.latents) and back.scenes == one.scenes


def test_times_are_spread_over_the_familys_own_distribution(tmp_path: Path) -> None:
    model = make("sd", tmp_path)
    times = denoiser.stratified_times(model, 10, torch.Generator().manual_seed(0))
    assert times.shape == (10,) and bool((times.diff() >= 0).all())
    assert times[0] < 250 and times[-1] > 750 and not times.is_floating_point()


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_the_signal_to_noise_is_the_schedulers(tmp_path: Path, family: str) -> None:
    model = make(family, tmp_path)
    t = torch.tensor([5, 100, 400, 990])
    kept = model.scheduler.alphas_cumprod[t].double()
    found = denoiser.signal_to_noise(model, t)
    assert torch.allclose(found.double(), kept / (1 - kept), rtol=1e-3)
    assert found[0] > 100 and found[-1] < 0.01


def test_a_share_of_the_batches_is_encoded_without_t5(tmp_path: Path) -> None:
    whole = make("sd3", tmp_path)
    bare_parts = {name: part for name, part in whole.parts.items() if not name.endswith("_3")}
    bare = known_families()["StableDiffusion3Pipeline"]("x", bare_parts, "", torch.device("cpu"), {})
    used: list[str] = []
    for name, model in (("whole", whole), ("bare", bare)):
        encode = model.encode_batch
        model.encode_batch = lambda some, name=name, encode=encode: used.append(name) or encode(some)  # type: ignore[method-assign, func-returns-value]
    config = SMALL.model_copy(update={"dropped_t5": 0.3})
    denoiser.train(whole, bank(whole), config, Training(tmp_path / "run", 0), bare)
    assert 0.1 * SMALL.steps < used.count("bare") < 0.6 * SMALL.steps
    assert used.count("whole") == SMALL.steps - used.count("bare")


def test_times_are_sampled_by_their_weight(tmp_path: Path) -> None:
    """A share of times equals the share of the weights there, and each n-th of the weights has one time."""
    model = make("sd", tmp_path)
    generator = torch.Generator().manual_seed(0)
    found = torch.cat([denoiser.stratified_times(model, 50, generator, 0.5) for _ in range(40)])
    weights = denoiser.signal_to_noise(model, torch.arange(1000)) ** -0.5
    expected = (weights[:250].sum() / weights.sum()).item()
    assert expected < 0.1
    assert (found < 250).float().mean().item() == pytest.approx(expected, abs=0.02)
    plain = torch.cat([denoiser.stratified_times(model, 50, generator) for _ in range(40)])
    assert (plain < 250).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_the_offset_of_the_noise_moves_whole_channels() -> None:
    clean = torch.zeros(500, 4, 8, 8)
    plain, moved = (
        denoiser.training_noise(clean, offset, torch.Generator().manual_seed(0)) for offset in (0.0, 0.3)
    )
    assert torch.equal(plain, torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)))
    assert (moved - plain).std((2, 3)).max() < 1e-5
    assert (moved - plain).std().item() == pytest.approx(0.3, rel=0.1)
