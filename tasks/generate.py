"""Draw pictures with the original model, a registered version, or an adapter file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fade import progress
from fade.errors import StorageError
from fade.workshop import Workshop

if TYPE_CHECKING:
    import numpy as np


def generate(shop: Workshop, prompt: str, model: str, n: int, seed: int, out: Path) -> Path:
    """``n`` pictures of ``prompt`` as one PNG grid; picture i starts from the noise of seed + i. Returns ``out``.

    model: ``base``, a registered ``NAME/VERSION`` (or NAME, ``models:/...``), or the path of an adapter.
    """
    adapter = _adapter(model, shop.runs)

    def told(done: int, total: int) -> None:
        progress.report("generate", done, total, prompt)

    base, mesh = shop.base, None
    if adapter is not None:
        from fade.mesh import Mesh

        mesh = Mesh.load(base, adapter)
        mesh.merge()  # as in the evaluation, whose pictures the cache may hold
    try:
        pixels = base.decode(base.sample([prompt] * n, [seed + i for i in range(n)], shop.params.sampler, told))
    finally:
        if mesh is not None:
            mesh.remove()
    return save_grid(pixels, out)


def _adapter(model: str, runs: Path) -> Path | None:
    if model == "base":
        return None
    if model.endswith(".safetensors"):
        return Path(model)
    from tasks.versions import load_version

    return load_version(model, runs)


def save_grid(pixels: np.ndarray, out: Path, columns: int = 8, gap: int = 2) -> Path:
    """uint8 (n, H, W, 3) as one PNG with ``columns`` pictures a row. Raises StorageError when it cannot be written."""
    import numpy as np
    from PIL import Image

    n, height, width, _ = pixels.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, np.uint8)
    for i, picture in enumerate(pixels):
        y, x = gap + (i // columns) * (height + gap), gap + (i % columns) * (width + gap)
        sheet[y : y + height, x : x + width] = picture
    part = out.with_name(f".{out.name}.{os.getpid()}.png")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sheet).save(part, format="PNG")
        os.replace(part, out)
    except OSError as error:
        raise StorageError(
            f"{out} cannot be written: {error.strerror}.", stage="generate", action="name another file with --out."
        ) from error
    return out
