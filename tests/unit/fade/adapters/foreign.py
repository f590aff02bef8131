"""Adapters of a tiny base as other tools write them, and pictures by readers that are not ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from fade.adapters.lora import LoraAdapter
from fade.config import MeshConfig

MESH = MeshConfig(rank=4, alpha=1.5)  # alpha != rank: the scale must survive every layout


def filled(base: Any, mesh: MeshConfig = MESH, size: float = 0.3) -> LoraAdapter:
    """An adapter in ``base`` whose up matrices are random, of standard deviation ``size``."""
    lora, generator = LoraAdapter.insert(base, mesh, seed=0), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in lora.named_parameters().items():
            if "lora_B" in name:
                parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
    return lora


def saved(base: Any, path: Path, **changes: Any) -> Path:
    """The file of `filled`; the base is left as it was."""
    lora = filled(base, **changes)
    lora.save(path, {"base_sha256": base.sha256, "concept": "panda"})
    lora.remove()
    return path


def merged(base: Any, path: Path) -> dict[str, torch.Tensor]:
    """The whole denoiser's weights with an adapter of ours, under their plain names."""
    lora = LoraAdapter.load(base, path)
    lora.merge()
    changed = {f"{name}.weight": value.clone() for name, value in lora.base_weights().items()}
    lora.remove()
    return {**{name: value.clone() for name, value in base.denoiser.state_dict().items()}, **changed}


def by_kohyas_rule(base: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """W + alpha / rank up @ down by key, as kohya's, ComfyUI's and A1111's readers do; every key is used."""
    left, out = dict(tensors), {name: value.clone() for name, value in base.denoiser.state_dict().items()}
    for name in [one for one in out if one.endswith(".weight")]:
        key = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        if f"{key}.lora_down.weight" in left:
            down, up = left.pop(f"{key}.lora_down.weight"), left.pop(f"{key}.lora_up.weight")
            scale = float(left.pop(f"{key}.alpha", torch.tensor(float(len(down))))) / len(down)
            out[name] += scale * (up.flatten(1) @ down.flatten(1)).view(out[name].shape)
    assert not left, sorted(left)
    return out


def plain_pipeline(home: str | Path) -> Any:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(home, safety_checker=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.requires_grad_(False)  # as peft sets it: torch chooses another matrix product where it is set
    return pipe


def latents_of(pipe: Any) -> torch.Tensor:
    """Two latents of plain diffusers, 4 steps."""
    generator = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    how = {"num_inference_steps": 4, "guidance_scale": 3.0, "output_type": "latent"}
    result: torch.Tensor = pipe(["a panda", "a cat"], generator=generator, **how).images
    return result


def foreign_layers(base: Any, ranks: tuple[int, ...] = (2, 3), size: float = 0.3) -> dict[str, Any]:
    """Layer -> (down, up, alpha), ranks taken in turn, alpha half as large again as the rank."""
    generator, layers = torch.Generator().manual_seed(3), {}
    for i, name in enumerate(base.layers(("all",))):
        weight, rank = base.denoiser.get_submodule(name).weight, ranks[i % len(ranks)]
        wide, narrow, *kernel = weight.shape
        down = torch.randn(rank, narrow, *kernel, generator=generator)
        up = size * torch.randn(wide, rank, *[1] * len(kernel), generator=generator)
        layers[name] = (down, up, 1.5 * rank)
    return layers


def kohya(layers: dict[str, Any], path: Path, *, alpha: bool = True, name: Any = None) -> Path:
    """A file of kohya's. name: of a layer, instead of the plain one."""
    name, state = name or (lambda layer: layer.replace(".", "_")), {}
    for layer, (down, up, strength) in layers.items():
        key = f"lora_unet_{name(layer)}"
        state |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
        state |= {f"{key}.alpha": torch.tensor(strength)} if alpha else {}
    save_file(state, path)
    return path


def peft(layers: dict[str, Any], folder: Path, **changes: Any) -> Path:
    """A folder of peft's, whose config names alphas by layer."""
    folder.mkdir()
    state = {}
    for layer, (down, up, _) in layers.items():
        key = f"base_model.model.{layer}"
        state |= {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up}
    save_file(state, folder / "adapter_model.safetensors")
    alphas = {layer: strength for layer, (_, _, strength) in layers.items()}
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 7, "alpha_pattern": alphas, **changes}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder / "adapter_model.safetensors"
