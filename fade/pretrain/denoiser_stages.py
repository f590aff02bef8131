"""The stages that train a family's denoiser: from a random start, and again from what that one left."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file
from torch import Tensor, nn

from fade.errors import DataError
from fade.models.base import DiffusionModel
from fade.models.families import known_families
from fade.models.layout import LOCAL
from fade.pretrain.denoiser import Bank, train
from fade.pretrain.families import FAMILIES, Family, Widths
from fade.pretrain.world import World

READS_PROMPT = re.compile(r"\.attn2\.to_[kv]\.weight$|^add_embedding\.")
"""Weights that read the prompt: a token's state, or the pooled vector and SDXL's numbers."""


def train_first(world: World) -> Any:
    """A new denoiser of the world's family, trained and frozen."""
    family = FAMILIES[world.family]
    torch.manual_seed(world.training(family.stage).seed)
    parts = _untrained_parts(world, family)
    if family.begins_from:
        found = load_file(world.work / "shared" / family.begins_from / SAFETENSORS_WEIGHTS_NAME)
        begin_with(parts[family.part], found, family.stage)
    return _trained(world, family.stage, parts)


def begin_with(denoiser: nn.Module, found: Mapping[str, Tensor], stage: str) -> None:
    """Put another denoiser's weights into this one, except those that read the prompt (`READS_PROMPT`), which
    keep their random start. A 1x1 convolution becomes the linear layer that it is.

    Raises DataError when the two differ in anything else."""
    own = {name: weight for name, weight in denoiser.state_dict().items() if not READS_PROMPT.search(name)}
    wrong = [
        name for name, weight in own.items() if name not in found or found[name].numel() != weight.numel()
    ]
    if wrong:
        what = f"the UNet that it begins with has no {wrong[0]} of {tuple(own[wrong[0]].shape)}."
        action = f"give pretrain.{stage}.channels and heads the values of pretrain.unet."
        raise DataError(what, stage=stage, action=action)
    for name, weight in own.items():
        weight.copy_(found[name].view_as(weight))


def train_again(world: World, stage: str, before: str) -> Any:
    """The denoiser that the finished stage ``before`` left, its averaged weights, trained once more."""
    family = FAMILIES[world.family]
    parts = _untrained_parts(world, family)
    parts[family.part].load_state_dict(load_file(world.model(before) / SAFETENSORS_WEIGHTS_NAME))
    return _trained(world, stage, parts)


def _untrained_parts(world: World, family: Family) -> dict[str, Any]:
    """The pipeline's parts, of which the denoiser alone is not trained."""
    config, parts = getattr(world.config, family.stage), world.encoders()
    parts["vae"] = AutoencoderKL.from_pretrained(world.vae, **LOCAL).eval()
    width = {name: parts[name].config.hidden_size for name in family.texts}
    # T5's tokens are further ones
    tokens = sum(width[name] for name, stage in family.texts.items() if stage != "t5")
    pooled = sum(width[name] for name in family.pooled)
    parts[family.part] = family.denoiser(config, Widths(parts["vae"].config.latent_channels, tokens, pooled))
    parts["scheduler"] = family.scheduler()
    return parts


def _trained(world: World, stage: str, parts: Mapping[str, Any]) -> Any:
    bank, training = Bank.load(world.work / "bank"), world.training(stage)
    bare = {name: part for name, part in parts.items() if not name.endswith("_3")}
    model = _model(world, parts)
    without_t5 = _model(world, bare) if len(bare) < len(parts) else None
    train(model, bank, getattr(world.config, stage), training, without_t5)
    return model.denoiser


def _model(world: World, parts: Mapping[str, Any]) -> DiffusionModel:
    family = FAMILIES[world.family]
    return known_families()[family.pipeline](
        str(world.work), parts, "", torch.device("cpu"), dict(family.index)
    )
