"""An image encoder that counts its own seconds: they are computing, as a studio's are."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from torch import Tensor

from fade.neighborhood import ImageEncoder


class TimedEncoder(ImageEncoder):
    """``seconds``: how long pictures were looked at so far."""

    def __init__(self, *where: Any) -> None:
        super().__init__(*where)
        self.seconds = 0.0

    def __call__(self, pixels: np.ndarray, batch_size: int = 256) -> Tensor:
        start = time.perf_counter()
        try:
            return super().__call__(pixels, batch_size)
        finally:
            self.seconds += time.perf_counter() - start
