"""The literal ESD-x: on Stable Diffusion what it was before it served other families, and on those the
family's own schedule, target and layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from fade.models.base import DiffusionModel
from fade.models.loading import load_model
from fade.run.resolve_params import load_params
from tests.support import bench_module

STEPS, LR, SEED = 4, 1e-3, 0


@pytest.fixture(scope="module")
def esd() -> ModuleType:
    return bench_module("esd")


def train(bench: ModuleType, base: DiffusionModel, steps: int = STEPS) -> dict[str, torch.Tensor]:
    """The denoiser after some steps of the bench's."""
    teacher = copy.deepcopy(base.denoiser).eval().requires_grad_(False)
    trained = bench.attention_parameters(base)
    for p in trained:
        p.requires_grad_(True)
    optimizer = torch.optim.Adam(trained, lr=LR)
    cond, null = base.encode(["a panda"]), base.encode([""])
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(steps):
        bench.step(base, teacher, optimizer, cond, null, generator)
    return dict(base.denoiser.state_dict())


def train_as_before(base: Any) -> dict[str, torch.Tensor]:
    """The same by the code that served Stable Diffusion alone, word for word."""
    eta, guidance = 1.0, 3.0
    teacher = copy.deepcopy(base.denoiser).eval().requires_grad_(False)
    trained = [p for n, p in base.denoiser.named_parameters() if "attn2" in n]
    for p in trained:
        p.requires_grad_(True)
    optimizer = torch.optim.Adam(trained, lr=LR)
    cond, null = base.encode(["a panda"]), base.encode([""])
    both = null.join(cond)
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(STEPS):
        with torch.no_grad():
            scheduler = DDIMScheduler.from_config(base.scheduler.config)
            scheduler.set_timesteps(10)
            stop = int(torch.randint(0, 10, (1,), generator=generator))
            x = torch.randn((1, *base.latent_shape), generator=generator)
            for t in scheduler.timesteps[:stop]:
                output = base.predict_guided(x, t.expand(1), cond, null, guidance)
                x = scheduler.step(output, t, x).prev_sample
            x, t = x, scheduler.timesteps[stop].expand(1)
            at_null, at_e = base.predict(torch.cat([x, x]), t.expand(2), both, teacher).chunk(2)
        loss = (base.predict(x, t, cond) - (at_null - eta * (at_e - at_null))).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return dict(base.denoiser.state_dict())


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_stable_diffusion_is_trained_as_before_to_the_bit(
    esd: ModuleType, spacing: str, tiny_base_dir: Path
) -> None:
    """ "leading": the tiny base's own; "trailing": the embedded world's."""
    bases = [load_model(str(tiny_base_dir), device="cpu") for _ in range(2)]
    for base in bases:
        base.scheduler.register_to_config(timestep_spacing=spacing)
    start = {name: value.clone() for name, value in bases[0].denoiser.state_dict().items()}
    new, old = train(esd, bases[0]), train_as_before(bases[1])
    assert all(torch.equal(new[name], old[name]) for name in old)
    assert {name for name in old if not torch.equal(start[name], old[name])} == (
        {name for name in old if "attn2" in name}
    )


def test_control_another_spacing_of_the_schedule_gives_other_weights(
    esd: ModuleType, tiny_base_dir: Path
) -> None:
    bases = [load_model(str(tiny_base_dir), device="cpu") for _ in range(2)]
    bases[0].scheduler.register_to_config(timestep_spacing="trailing")
    new, old = train(esd, bases[0]), train_as_before(bases[1])
    assert any(not torch.equal(new[name], old[name]) for name in old)


@pytest.mark.parametrize("name", ["sd2", "sdxl", "sd3", "sd35"])
def test_the_layers_where_text_meets_the_picture_are_trained_and_no_other(
    esd: ModuleType, name: str, family_dir: Callable[[str], Path]
) -> None:
    base = load_model(str(family_dir(name)), device="cpu")
    start = {key: value.clone() for key, value in base.denoiser.state_dict().items()}
    end = train(esd, base, steps=2)
    changed = {key for key in end if not torch.equal(start[key], end[key])}
    block = "attn2." if name in ("sd2", "sdxl") else "attn."
    inside = {key for key in end if f".{block}" in key and ".norm_" not in key}
    assert changed and changed <= inside and all(bool(torch.isfinite(end[key]).all()) for key in changed)
    # the last block puts out no text: what asks for it has no effect
    idle = {"transformer_blocks.2.attn.add_q_proj.weight"}
    assert {key for key in inside if key.endswith("weight")} - changed <= idle


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl", "sd3", "sd35"])
def test_a_sample_lies_on_the_familys_schedule_at_its_time(
    esd: ModuleType, name: str, family_dir: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that always answers with what it was trained to put out, for one clean latent and one noise:
    the sample must be that latent with that noise, at the time that is returned."""
    base = load_model(str(family_dir(name)), device="cpu")
    cond, null = base.encode(["a panda"]), base.encode([""])
    first = base.solver(esd.sampler_of(base, 10)).timesteps[:1]
    one = torch.ones(1, *base.latent_shape)
    stops = set()
    for seed in range(12):
        draws = torch.Generator().manual_seed(seed)
        stops.add(int(torch.randint(0, 10, (1,), generator=draws)))
        start = torch.randn((1, *base.latent_shape), generator=draws)
        noise, clean = start / base.add_noise(0 * one, one, first), 0 * one

        def exact(x: torch.Tensor, t: torch.Tensor, *_: Any, e: Any = noise, x0: Any = clean) -> torch.Tensor:
            return base.target(x0, e, t)

        monkeypatch.setattr(base, "predict_guided", exact)
        x, t = esd.partial_sample(base, cond, null, torch.Generator().manual_seed(seed))
        assert t.shape == (1,) and torch.allclose(x, base.add_noise(clean, noise, t), atol=1e-4), (seed, t)
    assert len(stops) > 4


def test_the_rates_are_half_of_the_bases_own(esd: ModuleType, repo: Path) -> None:
    pretrain = load_params(repo / "params.yaml").pretrain
    own = {"unet": (pretrain.unet.lr, pretrain.unet_xl.lr), "transformer": (pretrain.transformer.lr,)}
    assert {part: {rate / 2 for rate in rates} for part, rates in own.items()} == (
        {part: {rate} for part, rate in esd.RATES.items()}
    )


def test_a_world_that_params_yaml_lacks_is_refused_by_name(esd: ModuleType, repo: Path) -> None:
    from fade.errors import UnknownNameError

    esd_params, esd.PARAMS = esd.PARAMS, repo / "params.yaml"
    try:
        with pytest.raises(UnknownNameError, match="emojy"):
            esd.open_world("emojy", [], "panda")
        run = esd.open_world("emoji", ["sampler.steps=3"], "panda")
    finally:
        esd.PARAMS = esd_params
    assert run.params.sampler.steps == 3 and str(run.params.data.base) == "data/base"
