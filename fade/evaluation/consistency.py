"""Spatial consistency: structural similarity of same-seed pictures before and after erasing (the idea is All
but One's).

LPIPS is left out on purpose. Its package (0.1.4) imports torchvision, which has no place beside our torch;
its heads come as pickles, and its AlexNet or VGG from the network. A network of our own under converted
weights could not be checked against the published numbers here, and a number that is LPIPS in name only is
worse than none."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

WINDOW = 7  # pixels, the uniform window of Wang et al. (2004) as scikit-image uses it


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean structural similarity (n,) of picture pairs uint8 (n, H, W, 3), over channels; 1 = equal.

    Wang et al. 2004 with a uniform 7x7 window, sample covariance, K1 = 0.01, K2 = 0.03; scikit-image's
    definition, in one batch."""
    x, y = (torch.as_tensor(p).permute(0, 3, 1, 2).double() for p in (a, b))
    n = WINDOW * WINDOW
    unbias = n / (n - 1)

    def local(z: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(z, WINDOW, stride=1)

    mx, my = local(x), local(y)
    vx, vy = unbias * (local(x * x) - mx * mx), unbias * (local(y * y) - my * my)
    cov = unbias * (local(x * y) - mx * my)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    value = ((2 * mx * my + c1) * (2 * cov + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return value.mean(dim=(1, 2, 3)).numpy()
