"""Every eraser and every attack on models of every family: it works, or it is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fade.adapters.lora import LoraAdapter
from fade.config import AttackConfig, PurifyConfig, SamplerConfig
from fade.erasers.base import get_eraser, known_erasers
from fade.errors import AdapterError, FadeError, UsageError
from fade.evaluation.attacks import AttackContext, known_attacks
from fade.evaluation.attacks.material import Material
from fade.evaluation.attacks.run import run_attack
from fade.evaluation.drift import drift_curve, null_drift
from fade.jobs.train import TrainJob
from fade.mining.purify import invert, regenerate
from fade.models.base import DiffusionModel
from fade.models.capabilities import DDIM
from fade.models.loading import load_model
from fade.training.loop import train
from fade.utils.hashing import sha256_of
from tests.golden.adapters import variants
from tests.models_of_families import FAMILIES, FLOWS
from tests.support import make_latents

NEIGHBOURS = ("koala", "bear", "tiger", "lion", "cat")
METHODS = {name: settings for name, settings in variants().items() if "+" not in name}
FIRSTS = [f"{name}/{variants[0]}" for name, variants in known_erasers().items()]
"""The variant that each method's bare name means."""
NULL_PROMPT = "has no null prompt"
WITHOUT_NULL_PROMPT = {"ablation/broader", "ablation/model"}
"""The only methods that need no prediction without a prompt."""
SELF = "'self' names no layer"


def refusal(family: str, method: str) -> tuple[type[FadeError], str] | None:
    """The error that a method must end with on a family."""
    if family == "flux-schnell" and method not in WITHOUT_NULL_PROMPT:
        return UsageError, NULL_PROMPT
    if family in FLOWS and method == "esd/u":  # picture and text share their attention
        return AdapterError, SELF
    return None


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(family: str, family_dir: Callable[[str], Path]) -> DiffusionModel:
    return load_model(str(family_dir(family)), device="cpu")


def job(model: DiffusionModel, settings: dict[str, Any], out: Path) -> TrainJob:
    latents = make_latents(out / "latents.safetensors", m=2, shape=model.latent_shape)
    closed = get_eraser(settings["method"]["name"], settings["method"]["variant"]).solve is not None
    wide = {"rank": 400, "alpha": 400.0} if closed else {}
    steps = {"steps": 2, "warmup": 1, "precision": "fp32", "batch_target": 2, "batch_neighbours": 5}
    return TrainJob.model_validate(
        {
            "base": model.path,
            "base_sha256": model.sha256,
            "subjects": [{"target": "panda", "neighbours": NEIGHBOURS}],
            "heldout": ["wolf"],
            "prompt": "a {concept}",
            "latents": latents,
            "latents_sha256": sha256_of(latents),
            "mesh": {"rank": 2, "alpha": 4.0, **settings["mesh"], **wide},
            "method": settings["method"],
            "train": {**steps, **settings["train"], "steps": 2},
            "provenance": {"base_sha256": model.sha256, "concept": "panda"},
            "out": out,
        }
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_method_erases_on_a_family_or_is_refused_by_name(
    family: str, model: DiffusionModel, method: str, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in model.denoiser.state_dict().items()}
    wanted = job(model, METHODS[method], tmp_path)
    if refused := refusal(family, method):
        with pytest.raises(refused[0], match=refused[1]) as caught:
            train(wanted, model)
        assert caught.value.action
    else:
        lora = LoraAdapter.load(model, train(wanted, model))  # it has an effect, and is finite
        lora.remove()
    after = model.denoiser.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("method", FIRSTS)
@pytest.mark.parametrize(("name", "predicts"), [("sd1", "noise"), ("sd2", "v"), ("sd3", "velocity")])
def test_a_loss_in_noise_trains_another_adapter_unless_the_base_predicts_noise(
    name: str, predicts: str, method: str, family_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    base = load_model(str(family_dir(name)), device="cpu")

    def trained(space: str) -> bytes:
        train_section = {**METHODS[method]["train"], "loss_in": space}
        wanted = job(base, {**METHODS[method], "train": train_section}, tmp_path / space)
        keys.add(wanted.key())
        return train(wanted, base).read_bytes()

    keys: set[str] = set()
    closed = get_eraser(*method.split("/")).solve is not None
    assert (trained("own") == trained("noise")) == (closed or predicts == "noise")
    assert len(keys) == 2


class Parity:
    """A judge that calls a picture panda when the sum of its pixels is even, else rose: any change shows."""

    labels, sha256 = ("panda", "rose"), "j" * 64

    def index(self, name: str) -> int:
        return self.labels.index(name)

    def require(self, names: list[str]) -> None:
        assert set(names) <= set(self.labels)

    def __call__(self, pixels: np.ndarray) -> torch.Tensor:
        return torch.eye(2)[torch.from_numpy(pixels.astype(np.int64).sum((1, 2, 3)) % 2)]


CONFIG = AttackConfig(images=2, batch=2, probes=2, finalists=2, budget=40, unrelated=1, times=(0.3, 0.9))


@pytest.mark.parametrize("name", sorted(known_attacks()))
def test_an_attack_works_on_a_family_and_leaves_it_as_it_was(
    family: str, model: DiffusionModel, name: str
) -> None:
    scheduler = "euler" if family in FLOWS else "dpmpp_2m"
    scale = 1.0 if family == "flux-schnell" else 2.0
    sampler = SamplerConfig(scheduler=scheduler, steps=3, batch_size=4, guidance_scale=scale)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    latents = {
        one: torch.randn(2, *model.latent_shape, generator=generator) for one in ("panda", "rose", "cat")
    }
    material = Material(
        "panda",
        "rose",
        {k: latents[k] for k in ("panda", "rose")},
        {"cat": latents["cat"]},
        ("panda", "rose"),
    )
    subject = AttackContext(model, Parity(), sampler, CONFIG, material, "panda")  # type: ignore[arg-type]
    before = {key: value.clone() for key, value in model.denoiser.state_dict().items()}
    first = run_attack(subject, name)
    assert run_attack(subject, name) == first, "by its seed"
    other = run_attack(replace(subject, config=CONFIG.model_copy(update={"seed": 8})), name)
    assert first["unet_calls"] > 0 and first["n"] == other["n"] > 0
    assert all(torch.equal(before[key], value) for key, value in model.denoiser.state_dict().items())


def test_what_the_network_was_trained_for_has_no_error(model: DiffusionModel) -> None:
    """Errors of attacks are taken in the network's own target; the noise in its place is the control."""
    from fade.evaluation.attacks.denoising import add_noise, errors

    clean = torch.randn(3, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    noisy = add_noise(model, clean, 4, torch.Generator().manual_seed(1))
    noise = model.to_noise(noisy.goal, noisy.x, noisy.t)
    again = model.add_noise(clean[noisy.which], noise, noisy.t)
    assert torch.allclose(again, noisy.x, atol=2e-2 * float(noisy.x.abs().max()))
    exact = _Knowing(model, noisy.goal)
    assert float(errors(exact, noisy, model.encode(["a panda"])).max()) == 0  # type: ignore[arg-type]
    if not torch.equal(noisy.goal, noise):  # it predicts no noise
        guess = _Knowing(model, noise)
        assert float(errors(guess, noisy, model.encode(["a panda"])).mean()) > 0.1  # type: ignore[arg-type]


class _Knowing:
    """The model with a fixed output."""

    def __init__(self, model: DiffusionModel, output: torch.Tensor) -> None:
        self.model, self.output = model, output

    def predict(self, *_: Any) -> torch.Tensor:
        return self.output


def test_the_null_prompts_drift_is_none_without_a_change_and_some_with_one(
    family: str, model: DiffusionModel, tmp_path: Path
) -> None:
    latents = torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    method = "ablation/model" if family == "flux-schnell" else "fade/paper"
    name = method if method in METHODS else next(one for one in METHODS if one.startswith("ablation"))
    lora = LoraAdapter.load(model, train(job(model, METHODS[name], tmp_path), model))
    try:
        moved = null_drift(model, lora, latents, seed=1)
        curve = drift_curve(model, lora, latents, seed=1, bins=3)
        with lora.off():
            still = null_drift(model, lora, latents, seed=1)
    finally:
        lora.remove()
    assert moved > 0 == still
    assert [row["t"] for row in curve] == sorted(row["t"] for row in curve) and curve[-1]["drift"] > 0


def test_purification_goes_where_ddim_goes_and_is_refused_elsewhere(
    family: str, model: DiffusionModel
) -> None:
    if family in FLOWS:
        with pytest.raises(UsageError, match=r"purification cannot be used with .*velocity"):
            model.require(DDIM, "purification")
        return
    config = PurifyConfig(steps=10, refinements=3, strength=0.5)
    clean = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    null = model.encode([""])
    noisy = invert(model, clean, null, config)
    assert torch.isfinite(noisy).all() and not torch.allclose(noisy, clean, atol=0.05)
    back = regenerate(model, noisy, null, config)
    assert float((back - clean).square().mean()) < float((noisy - clean).square().mean())
