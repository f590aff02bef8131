"""Pictures as tensors, and the mild augmentation that the world is trained on. No loop over pictures."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def to_unit(pixels: np.ndarray | Tensor) -> Tensor:
    """uint8 (B, H, W, 3) in 0..255 -> float32 (B, 3, H, W) in -1..1."""
    return torch.as_tensor(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0).contiguous()


def augment(
    x: Tensor,
    generator: torch.Generator,
    *,
    shift: float = 0.04,
    scale: tuple[float, float] = (0.88, 1.02),
    angle: float = 2.0,
) -> Tensor:
    """Move, scale and hardly turn each picture on white. x (B, 3, H, W) in -1..1. Never flipped: a moon's
    side is its name.

    shift: share of the side; scale: range of the drawing's size; angle: degrees, both signs.
    """
    n = x.shape[0]
    unit = torch.rand(4, n, generator=generator)
    zoom = scale[0] + (scale[1] - scale[0]) * unit[0]
    turn = (2 * unit[1] - 1) * angle * torch.pi / 180
    move = (2 * unit[2:] - 1) * 2 * shift
    cos, sin = torch.cos(turn) / zoom, torch.sin(turn) / zoom
    theta = torch.stack(
        [torch.stack([cos, -sin, move[0]], -1), torch.stack([sin, cos, move[1]], -1)], 1
    )  # (B, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    # Zero padding of a picture shifted so that white is zero = white paper around it.
    return F.grid_sample(x - 1, grid, mode="bilinear", align_corners=False) + 1


def colour_jitter(x: Tensor, generator: torch.Generator, amount: float) -> Tensor:
    """Change contrast and brightness a little (not hue: a heart's colour is its name). x in -1..1."""
    unit = 2 * torch.rand(2, x.shape[0], 1, 1, 1, generator=generator) - 1
    return ((x * (1 + amount * unit[0])) + amount * unit[1]).clamp(-1, 1)


def fade_colours(x: Tensor, generator: torch.Generator, share: float) -> Tensor:
    """Draw a share of the pictures' colours towards grey, each by its own amount from none to all of the way,
    half of them by three quarters of it and more. x (B, 3, H, W) in -1..1. Hues stay: a heart's colour is its
    name."""
    unit = torch.rand(2, x.shape[0], 1, 1, 1, generator=generator)
    kept = torch.where(unit[0] < share, unit[1].square(), torch.ones_like(unit[1]))
    grey = x.mean(1, keepdim=True)
    return grey + kept * (x - grey)


def soften(x: Tensor, generator: torch.Generator) -> Tensor:
    """Blur as an autoencoder blurs: through half resolution, by a 3x3 binomial filter, or not at all."""
    half = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear", align_corners=False)
    taps = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = (taps[:, None] * taps[None, :]).expand(3, 1, 3, 3)
    smooth = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    pick = torch.randint(0, 3, (x.shape[0], 1, 1, 1), generator=generator)
    return torch.where(pick == 0, x, torch.where(pick == 1, smooth, half))
