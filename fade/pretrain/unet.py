"""The UNet: diffusers' UNet2DConditionModel on 8x8 latents, epsilon prediction, the text tower frozen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from fade.config import UnetConfig
from fade.data.vocabulary import fill
from fade.judges.image_set import augment, to_unit
from fade.judges.supervised_loop import Logs, Training, fit
from fade.pretrain.captions import TEMPLATES
from fade.pretrain.clip import tokenize

# Stable Diffusion's schedule; leading timesteps with an offset of one, as its scheduler config has it.
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    "clip_sample": False,
    "steps_offset": 1,
}


def build(config: UnetConfig, latent_channels: int, text_width: int) -> UNet2DConditionModel:
    """An untrained UNet with a transformer block at each resolution."""
    depth = len(config.channels)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=latent_channels,
        out_channels=latent_channels,
        layers_per_block=1,
        block_out_channels=config.channels,
        down_block_types=("CrossAttnDownBlock2D",) * depth,
        up_block_types=("CrossAttnUpBlock2D",) * depth,
        cross_attention_dim=text_width,
        attention_head_dim=config.heads,
        norm_num_groups=16,
    )


@torch.no_grad()
def encode_views(vae: AutoencoderKL, pixels: Tensor, views: int, seed: int) -> Tensor:
    """Scaled latents (N, views, C, 8, 8) of uint8 pictures (N, 64, 64, 3): unchanged, then augmented."""

    def view(index: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1000 + index)
        parts = map(to_unit, pixels.split(128))
        latents = [vae.encode(augment(x, generator) if index else x).latent_dist.mode() for x in parts]
        return torch.cat(latents) * float(vae.config.scaling_factor)

    return torch.stack([view(index) for index in range(views)], 1)


@torch.no_grad()
def encode_captions(
    text: CLIPTextModel, tokenizer: CLIPTokenizer, names: Sequence[str], styles: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Token states of every caption: ``(name, style or none, template)`` -> row; and the null prompt's states
    (1, T, D).

    Returns (len(names), 1 + len(styles), len(TEMPLATES), T, D).
    """
    captions = [fill(t, n, s) for n in names for s in (None, *styles) for t in TEMPLATES]
    ids = tokenize(tokenizer, [*captions, ""])
    states = torch.cat([text(input_ids=part).last_hidden_state for part in ids.split(512)])
    return states[:-1].unflatten(0, (len(names), 1 + len(styles), len(TEMPLATES))), states[-1:]


def train(
    latents: Tensor,
    names: Sequence[str],
    styles: Sequence[str],
    families: Sequence[str],
    text: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    config: UnetConfig,
    training: Training,
) -> UNet2DConditionModel:
    """Train on latents (N, views, C, 8, 8) with each drawing's name, style and family.

    Concepts are sampled equally often, those of the emphasised families more often. Loss: mean squared error
    of the predicted noise at uniform timesteps; captions are dropped to the null prompt."""
    torch.manual_seed(training.seed)
    concepts, style_set = sorted(set(names)), sorted(set(styles))
    states, null = encode_captions(text, tokenizer, concepts, style_set)
    name_id = torch.tensor([concepts.index(n) for n in names])
    style_id = torch.tensor([style_set.index(s) for s in styles])
    emphasis = torch.tensor([config.emphasis if f in config.emphasised else 1.0 for f in families])
    shares = 1.0 / torch.bincount(name_id).float()[name_id] * emphasis
    model = build(config, latents.shape[2], states.shape[-1])
    scheduler = DDPMScheduler(**SCHEDULE)

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        n = config.batch_size
        pick = torch.multinomial(shares, n, replacement=True, generator=generator)
        x0 = latents[pick, torch.randint(0, latents.shape[1], (n,), generator=generator)]
        styled = torch.rand(n, generator=generator) < config.styled_captions
        template = torch.randint(0, len(TEMPLATES), (n,), generator=generator)
        emb = states[name_id[pick], torch.where(styled, 1 + style_id[pick], 0), template]
        dropped = torch.rand(n, 1, 1, generator=generator) < config.dropped_captions
        emb = torch.where(dropped, null, emb)
        noise = torch.randn(x0.shape, generator=generator)
        # Stratified timesteps: one from each n-th of the range; the gradient of each step is less noisy.
        spread = (torch.arange(n) + torch.rand(n, generator=generator)) / n
        t = (spread * SCHEDULE["num_train_timesteps"]).long()  # type: ignore[operator]
        xt = scheduler.add_noise(x0, noise, t)
        return F.mse_loss(model(xt, t, emb).sample, noise), {}

    fit(model, loss_at, config, training)
    return model
