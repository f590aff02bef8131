"""The autoencoder: diffusers' AutoencoderKL with a factor of 8, on all drawings but the held-out artist's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor

from fade.config import AutoencoderConfig
from fade.judges.image_set import augment, to_unit
from fade.judges.supervised_loop import Logs, Training, fit
from fade.pretrain import codec


def build(config: AutoencoderConfig) -> AutoencoderKL:
    """An autoencoder (B, 3, 64, 64) <-> (B, latent_channels, 8, 8) whose residual branches start at zero.

    It starts as a chain of plain convolutions: random branches would drown the signal before anything is
    learned."""
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
        shift_factor=0.0,  # Stable Diffusion 3's pipeline needs a number
    )
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, ResnetBlock2D):
                codec.set_to_zero(module.conv2)
            elif isinstance(module, Attention):
                codec.set_to_zero(module.to_out[0])
    return model


@torch.no_grad()
def from_chain(
    chain: codec.Chain, config: AutoencoderConfig, pixels: Tensor, shares: Tensor, seed: int
) -> AutoencoderKL:
    """An autoencoder whose encoder is the chain's, scaled such that its latents have unit variance."""
    torch.manual_seed(seed)
    model = build(config).eval()
    generator = torch.Generator().manual_seed(seed)
    x = to_unit(pixels[torch.multinomial(shares, 512, replacement=True, generator=generator)])
    codec.place(chain, model, x)
    model.register_to_config(scaling_factor=float(1 / chain.encode(x).std()))
    return model


def refine_decoder(
    model: AutoencoderKL, pixels: Tensor, shares: Tensor, config: AutoencoderConfig, training: Training
) -> None:
    """Train the decoder alone, in place, on uint8 pictures (N, 64, 64, 3) sampled by their ``shares``.

    Loss: absolute and squared error of pixels, of their gradients (edges are what drawings are made of) and
    of 8x8 means (a wrong colour is worse than a wrong texture). The latents get a little noise, as those that
    a sampler makes are never exact."""
    model.requires_grad_(False)
    model.decoder.requires_grad_(True)
    # The last norm and filter see the codec's large constants: the smallest step would shift every pixel.
    model.decoder.conv_norm_out.requires_grad_(False)
    model.decoder.conv_out.requires_grad_(False)

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        pick = torch.multinomial(shares, config.batch_size, replacement=True, generator=generator)
        x = augment(to_unit(pixels[pick]), generator)
        with torch.no_grad():
            z = model.encode(x).latent_dist.mode()
            z = z + 0.03 * torch.randn(z.shape, generator=generator) / model.config.scaling_factor
        error = model.decode(z).sample - x
        square = error.square().mean()
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        colour = F.avg_pool2d(error, 8).square().mean()
        loss = 0.5 * error.abs().mean() + 4 * square + 0.25 * edges + 4 * colour
        return loss, {"psnr": float(10 * torch.log10(4 / square.detach()))}

    fit(model, loss_at, config, training)


@torch.no_grad()
def psnr(model: AutoencoderKL, pixels: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (dB) of each reconstruction, (N,), on uint8 pictures (N, 64, 64, 3)."""
    out = []
    for part in pixels.split(64):
        x = to_unit(part)
        y = model.decode(model.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        out.append(10 * torch.log10(4 / F.mse_loss(y, x, reduction="none").mean(dim=(1, 2, 3))))
    return torch.cat(out)
