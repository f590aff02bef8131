"""The embedded world's parts: the loop that resumes, the codec that becomes an autoencoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fade.config import AutoencoderConfig, FitConfig, PretrainConfig
from fade.errors import DivergedError
from fade.judges.image_set import augment, fade_colours, soften, to_unit
from fade.judges.supervised_loop import Logs, Training, fit, one_cycle
from fade.pretrain import autoencoder, codec
from fade.pretrain.build import stages
from fade.pretrain.families import FAMILIES
from fade.pretrain.measure import family_share
from fade.pretrain.world import World

SMALL = AutoencoderConfig(steps=1, batch_size=1, lr=0.1, channels=(16, 20, 24, 64), latent_channels=4)


def quadratic(kill_at: int | None = None) -> tuple[nn.Module, object]:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        if step == kill_at:
            raise KeyboardInterrupt
        x = torch.randn(8, 3, generator=generator)
        return (model(x) - x.sum(1, keepdim=True)).square().mean(), {}

    return model, loss_at


def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    config = FitConfig(steps=40, batch_size=8, lr=0.05, checkpoint_every=10)
    model, loss_at = quadratic()
    whole = fit(model, loss_at, config, Training(tmp_path / "whole", 3))  # type: ignore[arg-type]
    model, loss_at = quadratic(kill_at=25)
    with pytest.raises(KeyboardInterrupt):
        fit(model, loss_at, config, Training(tmp_path / "killed", 3))  # type: ignore[arg-type]
    model, loss_at = quadratic()
    resumed = fit(model, loss_at, config, Training(tmp_path / "killed", 3))  # type: ignore[arg-type]
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)
    model, loss_at = quadratic()
    other = fit(model, loss_at, config, Training(tmp_path / "other", 4))  # type: ignore[arg-type]
    assert not all(torch.equal(whole[k], other[k]) for k in whole)


def test_divergence_is_said(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    config = FitConfig(steps=2, batch_size=1, lr=0.1)
    loss = torch.tensor(float("nan"))
    with pytest.raises(DivergedError, match="step 0"):
        fit(model, lambda step, generator: (loss, {}), config, Training(tmp_path / "x", 0))


def test_one_cycle_rises_and_falls() -> None:
    rates = [one_cycle(s, 100) for s in range(100)]
    assert max(rates) == pytest.approx(1, abs=0.01) and rates.index(max(rates)) in (4, 5) and rates[-1] < 1e-3


def test_augmentation_keeps_white_paper_white_and_is_seeded() -> None:
    white = torch.ones(4, 3, 64, 64)
    assert torch.allclose(augment(white, torch.Generator().manual_seed(0)), white, atol=1e-5)
    x = torch.rand(4, 3, 64, 64) * 2 - 1
    one, two, other = (augment(x, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert soften(x, torch.Generator().manual_seed(0)).shape == x.shape


def test_faded_colours_lose_saturation_and_keep_brightness_and_hue() -> None:
    x = torch.rand(64, 3, 8, 8) * 2 - 1
    faded, none = (fade_colours(x, torch.Generator().manual_seed(0), share) for share in (1.0, 0.0))
    assert torch.allclose(none, x, atol=1e-6) and torch.allclose(faded.mean(1), x.mean(1), atol=1e-6)
    spread, before = (each.amax(1) - each.amin(1) for each in (faded, x))
    left = (spread / before).flatten(1)  # of a picture the same everywhere, and another of each
    assert torch.allclose(left, left[:, :1].expand_as(left), atol=1e-3)
    assert left.min() < 0.1 and left.max() > 0.9 and left.max() <= 1
    assert torch.equal(faded.argmax(1), x.argmax(1))


def test_pixels_become_minus_one_to_one() -> None:
    x = to_unit(np.array([[[[0, 127.5, 255]]]], dtype=np.float32))
    assert x.shape == (1, 3, 1, 1) and x.flatten().tolist() == pytest.approx([-1, 0, 1])


def test_the_chain_becomes_the_autoencoders_encoder_exactly() -> None:
    torch.manual_seed(0)
    chain = codec.Chain(SMALL)
    with torch.no_grad():
        for parameter in chain.parameters():
            parameter.mul_(
                1.6
            )  # an untrained chain fades its signal away; a trained one keeps it near the pixels' scale
    pixels = torch.randint(0, 256, (16, 64, 64, 3), dtype=torch.uint8)
    x = to_unit(pixels)
    codec.natural_spectrum(chain, x)
    codes = chain.encode(x).detach()
    flat = codes.permute(0, 2, 3, 1).reshape(-1, 4)
    spread = torch.cov(flat.T)
    assert torch.allclose(
        spread, torch.diag(spread.diagonal()), atol=1e-3 * float(spread.max())
    )  # uncorrelated
    assert spread.diagonal().diff().max() <= 1e-6  # strongest first
    model = autoencoder.from_chain(chain, SMALL, pixels, torch.ones(16), seed=0)
    with torch.no_grad():
        found = model.encode(x).latent_dist.mode()
    assert torch.allclose(found, codes, atol=0.02 * float(codes.std()))
    assert model.config.scaling_factor == pytest.approx(float(1 / codes.std()), rel=0.1)


def test_a_stage_is_made_again_only_when_its_own_settings_or_inputs_change(tmp_path: Path) -> None:
    made: list[str] = []

    def build(config: PretrainConfig) -> list[str]:
        made.clear()
        world = World(tmp_path, "sd", config)
        world.stage("text", lambda folder: made.append("text"), ["text", "emphasis"])
        world.stage("unet", lambda folder: made.append("unet"), ["unet"], ["text"])
        world.stage("judge", lambda folder: made.append("judge"), ["judge"])
        return list(made)

    first = PretrainConfig()
    assert build(first) == ["text", "unet", "judge"] and build(first) == []
    longer = first.model_copy(update={"unet": first.unet.model_copy(update={"steps": 7})})
    assert build(longer) == ["unet"]
    other = longer.model_copy(update={"text": longer.text.model_copy(update={"steps": 7})})
    assert build(other) == ["text", "unet"] and build(other) == []
    assert build(other.model_copy(update={"emphasis": 3.0})) == ["text", "unet"]
    assert build(other.model_copy(update={"seed": 1})) == ["text", "unet", "judge"]


def test_a_stage_that_failed_is_not_taken_for_done(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise DivergedError("the loss is nan.")

    with pytest.raises(DivergedError):
        World(tmp_path, "sd", PretrainConfig()).stage("text", fail, ["text"])
    made: list[Path] = []
    World(tmp_path, "sd", PretrainConfig()).stage("text", made.append, ["text"])
    assert made == [tmp_path / "text"]


def test_a_family_share_counts_sisters_and_leaves_small_families_out() -> None:
    family = np.array(["a"] * 6 + ["b"] * 6 + ["c"])
    near = np.eye(13)
    near[:6, :6] += 0.5  # a with a
    near[6:12, :6] += 0.4  # b with a
    near[12, :12] += 0.3
    kin = {"a": ["b"], "b": ["a"]}
    found = family_share(near, family, kin, 0, 5)
    assert found == {"mean": 100.0, "families": {"a": 100.0, "b": 100.0, "c": 0.0}}
    apart = family_share(near, family, {}, 0, 5)
    assert apart["mean"] == 50.0 and apart["families"]["b"] == 0.0
    assert family_share(near, family, {}, 5, 10)["families"]["a"] == 0.0


@pytest.mark.parametrize(("family", "stands_on_parts"), [*((name, True) for name in FAMILIES), ("sd", False)])
def test_every_stage_comes_after_those_that_it_is_made_from(family: str, stands_on_parts: bool) -> None:
    known, fields = {"recipe", *(["parts"] if stands_on_parts else [])}, set(PretrainConfig.model_fields)
    found = stages(family, stands_on_parts)
    for name, (_, settings, inputs) in found.items():
        assert set(inputs.split()) <= known and set(settings.split()) <= fields, name
        known.add(name)
    assert ("judge" in found) is not stands_on_parts
