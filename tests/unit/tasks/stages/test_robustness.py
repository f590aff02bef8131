"""The further measurements of a cell: what they are made of, that the UNet is plain again, and what an
unknown number leaves."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fade.adapters.lora import LoraAdapter
from fade.config import MeshConfig
from tasks.stages import robustness
from tests.support import tiny_model, tiny_unet

NUMBERS = {
    "metrics": {"A_er": 100.0, "A_adj": 80.0, "A_rest": 90.0},
    "base_metrics": {"A_adj": 100.0, "A_rest": 100.0},
}


@pytest.fixture
def run(tmp_path: Path) -> SimpleNamespace:
    """A base whose UNet is real, and an adapter for it that does something."""
    base = tiny_model(tiny_unet(), "b")
    lora = LoraAdapter.insert(base, MeshConfig(), seed=0)
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter.fill_(0.01)
    lora.save(tmp_path / "a.safetensors", {"base_sha256": "b"})
    lora.remove()
    models = SimpleNamespace(base=base)
    return SimpleNamespace(models=models, adapter=tmp_path / "a.safetensors")


def probed(
    monkeypatch: pytest.MonkeyPatch,
    run: SimpleNamespace,
    gone: float | None,
    adv: float = 50.0,
    **numbers: object,
) -> dict:
    """``probe`` with the two measurements, which have tests of their own, answering at once and looking at
    the UNet."""

    def indirect(run: SimpleNamespace, neighborhood: object, adapter: Path, sha256: str) -> dict:
        return {"A_indirect": gone, "prompts": ["many"]}

    def attack(run: SimpleNamespace, target: str, adapter: Path, sha256: str) -> dict:
        return {"A_adv": adv}

    monkeypatch.setattr(robustness, "_indirect", indirect)
    monkeypatch.setattr(robustness, "_attack", attack)
    before = {name: value.clone() for name, value in run.models.base.denoiser.state_dict().items()}
    blocks = robustness.measure_robustness(
        run, SimpleNamespace(target="panda"), run.adapter, {**NUMBERS, **numbers}
    )
    after = run.models.base.denoiser.state_dict()
    assert set(after) == set(before) and all(
        torch.equal(after[name], value) for name, value in before.items()
    )
    return blocks


def test_err_is_the_harmonic_mean_of_the_five(monkeypatch: pytest.MonkeyPatch, run: SimpleNamespace) -> None:
    blocks = probed(monkeypatch, run, 75.0)
    parts = [1.0, 0.9, 0.8, 0.75, 0.5]  # forgotten, rest, adjacent, indirect, adversarial
    assert blocks["err"]["ERR"] == pytest.approx(5 / math.fsum(1 / p for p in parts))
    assert "prompts" not in blocks["indirect"] and blocks["attacks"] == {"A_adv": 50.0}


def test_what_was_not_measured_leaves_no_err(monkeypatch: pytest.MonkeyPatch, run: SimpleNamespace) -> None:
    assert probed(monkeypatch, run, None)["err"]["ERR"] is None


def test_indirect_prompts_that_the_evaluation_drew_are_not_drawn_again(
    monkeypatch: pytest.MonkeyPatch, run: SimpleNamespace
) -> None:
    assert probed(monkeypatch, run, 0.0, indirect={"A_indirect": 60.0})["indirect"] == {"A_indirect": 60.0}
