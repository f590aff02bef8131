"""Adapters on every model family: off is the teacher, merged is exact, and diffusers' own pipeline reads the
file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fade.adapters.lora import LoraAdapter
from fade.config import MeshConfig
from fade.errors import AdapterError
from fade.models.base import DiffusionModel
from fade.models.loading import load_model
from tests.models_of_families import FAMILIES, FLOWS, open_pipeline

CONFIG = MeshConfig(rank=2, alpha=3.0)  # alpha != rank: the scale must survive a file


@pytest.fixture(params=list(FAMILIES))
def model(request: pytest.FixtureRequest, family_dir: Callable[[str], Path]) -> DiffusionModel:
    return load_model(str(family_dir(request.param)))


def prediction(model: DiffusionModel) -> Tensor:
    with torch.no_grad():
        return model.predict(*model.example(torch.Generator().manual_seed(4)))


def filled(model: DiffusionModel, config: MeshConfig = CONFIG) -> LoraAdapter:
    """An adapter with an effect: ``up`` is no longer zero."""
    lora = LoraAdapter.insert(model, config, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in lora.named_parameters().items():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return lora


def saved(lora: LoraAdapter, folder: Path) -> Path:
    lora.save(folder / "adapter.safetensors", {"base_sha256": lora.model.sha256, "concept": "panda"})
    return folder / "adapter.safetensors"


def test_off_is_the_teacher_and_merging_is_exact(model: DiffusionModel) -> None:
    teacher, weights = prediction(model), {k: v.clone() for k, v in model.denoiser.state_dict().items()}
    lora = filled(model)
    adapted = prediction(model)
    assert not torch.allclose(adapted, teacher, atol=1e-3)
    with lora.off():
        assert torch.equal(prediction(model), teacher)
    lora.merge()
    assert torch.allclose(prediction(model), adapted, atol=1e-4, rtol=1e-4)
    with lora.off():
        assert torch.equal(prediction(model), teacher)
    lora.unmerge()
    assert torch.equal(prediction(model), adapted)
    lora.remove()
    after = model.denoiser.state_dict()
    assert list(after) == list(weights) and all(torch.equal(after[name], weights[name]) for name in weights)


@pytest.mark.parametrize("targets", ["all", "text"])
def test_an_adapter_of_zeros_changes_no_bit(model: DiffusionModel, targets: str) -> None:
    teacher = prediction(model)
    lora = LoraAdapter.insert(model, MeshConfig(rank=2, alpha=3.0, targets=(targets,)), seed=0)
    weights = {name: weight.clone() for name, weight in lora.base_weights().items()}
    assert torch.equal(prediction(model), teacher)
    lora.merge()
    assert torch.equal(prediction(model), teacher)
    merged = model.denoiser.state_dict()
    assert all(torch.equal(merged[f"{name}.base_layer.weight"], one) for name, one in weights.items())
    with torch.no_grad():
        next(p for name, p in lora.named_parameters().items() if "lora_B" in name).fill_(0.1)
    lora.unmerge()
    assert not torch.equal(prediction(model), teacher)  # control


@pytest.mark.parametrize("targets", ["all", "text"])
def test_a_file_loads_here_and_in_diffusers_pipeline(
    model: DiffusionModel, targets: str, tmp_path: Path
) -> None:
    teacher = prediction(model)
    lora = filled(model, CONFIG.model_copy(update={"targets": (targets,)}))
    adapted, path = prediction(model), saved(lora, tmp_path)
    lora.remove()
    assert torch.equal(prediction(model), teacher)
    LoraAdapter.load(model, path)
    assert torch.equal(prediction(model), adapted)

    pipeline: Any = open_pipeline(Path(model.path))
    model.denoiser = getattr(pipeline, model.DENOISER)
    assert torch.equal(prediction(model), teacher)  # control: the pipeline starts without the adapter
    pipeline.load_lora_weights(tmp_path, weight_name=path.name)
    assert float((prediction(model) - adapted).abs().max()) <= 1e-5


PAIRS = [("sd1", "sdxl"), ("sdxl", "sd3"), ("sd3", "flux-dev"), ("flux-dev", "sd1")]


@pytest.mark.parametrize(("trained", "loaded"), PAIRS)
def test_an_adapter_of_another_family_is_refused_by_name(
    trained: str, loaded: str, family_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    owner, other = (load_model(str(family_dir(name))) for name in (trained, loaded))
    path = saved(filled(owner), tmp_path)
    with pytest.raises(AdapterError) as caught:
        LoraAdapter.load(other, path)
    assert owner.FAMILY in str(caught.value) and other.FAMILY in str(caught.value)
    assert not getattr(other.denoiser, "peft_config", {})
    LoraAdapter.load(load_model(str(family_dir(trained))), path)  # control


def test_roles_of_a_family_are_layers_and_others_are_refused(model: DiffusionModel) -> None:
    flow = model.DENOISER == "transformer"
    roles = {role: model.layers([role]) for role in model.ROLES}
    assert set(roles["cross"]) < set(roles["all"])
    assert roles["text"] == (["context_embedder"] if flow else roles["text_kv"])
    assert ("text_in" in roles) == flow and ("self" in roles) != flow
    assert any("attn2" in name for name in roles["all"]) == (not flow or "sd35" in model.path)
    assert not flow or not any("attn2" in name for name in roles["cross"])  # SD3.5's second: pictures alone
    assert not any("norm" in name or "time" in name for names in roles.values() for name in names)
    with pytest.raises(AdapterError, match="names no layer"):
        model.layers(["text_kv" if flow else "text_in"])
    if flow:
        with pytest.raises(AdapterError, match="'self' names no layer"):
            model.layers(["self"])


@pytest.mark.parametrize("name", FLOWS)
def test_text_layers_read_the_raw_text_states(name: str, family_dir: Callable[[str], Path]) -> None:
    model = load_model(str(family_dir(name)))
    lora = LoraAdapter.insert(model, MeshConfig(rank=2, targets=("text",)), seed=0)
    tokens = model.encode(["a panda"]).tokens
    lora.fix_down(torch.zeros(2, tokens.shape[-1]))
    assert [one.requires_grad for one in lora.named_parameters().values()] == [False, True]
