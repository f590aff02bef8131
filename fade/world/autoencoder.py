"""The autoencoder: diffusers' AutoencoderKL with a factor of 8, trained on every drawing but the held-out artist's."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor

from fade.config import AutoencoderConfig, DecoderConfig
from fade.world.loop import Logs, OnStep, fit
from fade.world.pictures import augment, to_unit


def build(config: AutoencoderConfig) -> AutoencoderKL:
    """An untrained autoencoder: (B, 3, 64, 64) <-> (B, latent_channels, 8, 8)."""
    depth = len(config.channels)
    model = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        block_out_channels=config.channels,
        layers_per_block=1,
        latent_channels=config.latent_channels,
        norm_num_groups=4,
        sample_size=64,
    )
    # Residual branches start at zero: the network starts as a chain of plain convolutions, whose signal is not yet drowned
    # in the branches' random output, and a posterior that starts narrow does not drown the channels either (with the usual
    # start seven of sixteen stayed dead and colours were lost).
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ResnetBlock2D):
                module.conv2.weight.zero_()
                module.conv2.bias.zero_()
            elif isinstance(module, Attention):
                module.to_out[0].weight.zero_()
        model.quant_conv.bias[config.latent_channels :] = -6.0
    return model


def train(pixels: Tensor, shares: Tensor, config: AutoencoderConfig, folder: Path, *, seed: int, on_step: OnStep, identity: dict[str, str] | None = None) -> AutoencoderKL:
    """Train on uint8 pictures (N, 64, 64, 3) drawn with probability ``shares`` (N,); the latents' scale is measured at the end.

    Loss: absolute and squared error of pixels, of their gradients (edges are what drawings are made of) and of 8x8 means
    (a wrong colour is worse than a wrong texture), and a light KL.
    """
    torch.manual_seed(seed)
    model = build(config)

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        pick = torch.multinomial(shares, config.batch_size, replacement=True, generator=generator)
        x = augment(to_unit(pixels[pick]), generator, shift=0.08, scale=(0.7, 1.1), angle=10)
        posterior = model.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        y = model.decode(posterior.mean + posterior.std * noise).sample
        loss, logs = _reconstruction(y - x)
        return loss + config.kl_weight * posterior.kl().mean(), logs

    average = fit(model, loss_at, config, folder, seed=seed, identity=identity, on_step=on_step)
    model.load_state_dict(average, strict=True)
    model.eval().requires_grad_(False)
    with torch.no_grad():
        latents = torch.cat([model.encode(to_unit(p)).latent_dist.mean for p in pixels[:1024].split(64)])
    model.register_to_config(scaling_factor=float(1 / latents.std()))
    return model


def refine_decoder(model: AutoencoderKL, pixels: Tensor, shares: Tensor, config: DecoderConfig, folder: Path, *, seed: int, on_step: OnStep, identity: dict[str, str] | None = None) -> None:
    """Train the decoder on, in place, with the encoder (and so every latent) fixed. Same loss without the KL.

    The latents get a little noise, as those that a sampler makes are never exact.
    """
    model.requires_grad_(False)
    model.decoder.requires_grad_(True)
    model.post_quant_conv.requires_grad_(True)

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        pick = torch.multinomial(shares, config.batch_size, replacement=True, generator=generator)
        x = augment(to_unit(pixels[pick]), generator)
        with torch.no_grad():
            z = model.encode(x).latent_dist.mode()
            z = z + 0.03 * torch.randn(z.shape, generator=generator) / model.config.scaling_factor
        loss, logs = _reconstruction(model.decode(z).sample - x)
        return loss, logs

    average = fit(model, loss_at, config, folder, seed=seed, identity=identity, on_step=on_step)
    model.load_state_dict(average, strict=False)
    model.eval().requires_grad_(False)


def _reconstruction(error: Tensor) -> tuple[Tensor, Logs]:
    """The loss of an error image (B, 3, H, W) in the range -1..1, and its PSNR (dB)."""
    square = error.square().mean()
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    colour = F.avg_pool2d(error, 8).square().mean()
    loss = 0.5 * error.abs().mean() + 4 * square + 0.25 * edges + 4 * colour
    return loss, {"psnr": float(10 * torch.log10(4 / square.detach()))}


@torch.no_grad()
def psnr(model: AutoencoderKL, pixels: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (dB) of each reconstruction, (N,), on uint8 pictures (N, 64, 64, 3)."""
    out = []
    for part in pixels.split(64):
        x = to_unit(part)
        y = model.decode(model.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        out.append(10 * torch.log10(4 / F.mse_loss(y, x, reduction="none").mean(dim=(1, 2, 3))))
    return torch.cat(out)
