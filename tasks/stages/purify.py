"""Purify one real picture with an erased model, and judge it, its control and the input alike."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.data.pictures import FORMATS
from fade.errors import UnknownNameError, UsageError
from fade.run.context import RunContext
from fade.run.worlds import load_adapter
from fade.utils import progress
from fade.utils.files import result_file
from fade.utils.hashing import sha256_of
from fade.utils.reading import PICTURE, read_bytes
from tasks.stages.generate import PNG, concept_of, erased_adapter, save_png

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

STAGE = "purify"
MOST_PIXELS = 40_000_000
"""A picture with more is refused before it is unpacked: a small file can hold gigabytes of one colour."""
PANELS = ("input", "control", "purified")


def purify(run: RunContext, picture: Path, model: str, concept: str | None, out: Path) -> dict[str, Any]:
    """Invert ``picture`` with the original model; draw it again with the original (the control) and with the
    erased one.

    ``concept``: what is judged and prompted for; without it, what the adapter's header says was erased.
    Writes the three panels to ``out`` and returns, for each, the judge's probability of the concept, its
    top-1 label and the SSIM to the input. Raises UsageError for no picture, one that is too large, or
    ``base`` as the model; UnknownNameError for a concept without a label; AdapterError, StorageError."""
    result_file(out, ".png", STAGE, PNG)
    original = read_picture(picture)  # bad input is reported before any model is loaded
    adapter = erased_adapter(model, run, STAGE)
    concept = concept or concept_of(adapter)
    if concept not in run.models.judge.labels:
        raise UnknownNameError("concept", concept, run.models.judge.labels, stage=STAGE)
    panels = _panels(run, fitted(original, run.models.base.image_size), adapter, concept)
    from fade.evaluation.similarity import ssim

    labels, index = run.models.judge.labels, run.models.judge.index(concept)
    odds, similarity = run.models.judge(panels).numpy(), ssim(panels, panels[:1].repeat(len(panels), axis=0))
    rows = {
        name: {"probability": float(p[index]), "top1": labels[int(p.argmax())], "ssim": float(similar)}
        for name, p, similar in zip(PANELS, odds, similarity, strict=True)
    }
    save_panels(panels, out)
    return {"concept": concept, "picture": str(picture), "model": model, "out": str(out), **rows}


def _panels(run: RunContext, pixels: np.ndarray, adapter: Path, concept: str) -> np.ndarray:
    """(3, H, W, 3) uint8: the input, the original model's round trip, and the erased model's picture. Raises
    BaseModelError, AdapterError for latents that are not finite, and for an erased picture of one colour."""
    import numpy as np

    from fade.data.vocabulary import fill
    from fade.generation.picture_checks import decode_checked, require_finite
    from fade.mining.purify import invert, regenerate
    from fade.models.capabilities import DDIM

    base, sampler, config = run.models.base, run.params.sampler, run.params.purify
    base.require(DDIM, "purification")
    null, prompt = base.encode([sampler.negative_prompt]), base.encode([fill(sampler.prompt, concept)])
    noisy = invert(base, base.encode_pictures(pixels).to(base.device), null, config)
    progress.report(STAGE, 1, 3, "inverted")
    control = regenerate(base, noisy, null, config)
    progress.report(STAGE, 2, 3, "round trip of the original model")
    lora = load_adapter(run, adapter)
    try:
        purified = regenerate(base, noisy, prompt, config, null)
    finally:
        lora.remove()
    progress.report(STAGE, 3, 3, "drawn by the erased model")
    require_finite(control, [""], STAGE)
    erased = decode_checked(base, purified, fill(sampler.prompt, concept), STAGE, sha256_of(adapter))
    return np.concatenate([pixels, base.decode(control), erased])


def read_picture(path: Path) -> Image.Image:
    """A PIL picture, RGB, upright, transparency on white. Raises UsageError: not there, no picture, another
    format, too large."""
    from PIL import Image, ImageOps

    formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
    action = f"name a {formats} file of at most {MOST_PIXELS // 10**6} megapixels."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(read_bytes(path, PICTURE)), formats=FORMATS) as picture:
                width, height = picture.size  # from the file's head: nothing is unpacked yet
                if width * height > MOST_PIXELS:
                    what = f"{path} is too large: {width} x {height} pixels."
                    raise UsageError(what, stage=STAGE, action=action)
                rgba = ImageOps.exif_transpose(picture).convert("RGBA")
    except FileNotFoundError:
        raise UsageError(f"{path} is not there.", stage=STAGE, action=action) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UsageError(f"{path} is too large.", stage=STAGE, action=action) from None
    except (OSError, SyntaxError, ValueError) as error:  # what PIL raises for a broken or foreign file
        what = f"{path} is no picture that can be read: {error}."
        raise UsageError(what, stage=STAGE, action=action) from None
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def fitted(picture: Image.Image, size: int) -> np.ndarray:
    """(1, size, size, 3) uint8 of a PIL picture, white bars where it is not square."""
    import numpy as np
    from PIL import Image, ImageOps

    return np.array(ImageOps.pad(picture, (size, size), method=Image.Resampling.LANCZOS, color="white"))[None]


def save_panels(panels: np.ndarray, out: Path, zoom: int = 3) -> None:
    """uint8 (3, H, W, 3) side by side with captions, enlarged ``zoom`` times. Raises StorageError when it
    cannot be written."""
    from PIL import Image

    from fade.reporting.image_grid import GridRow, image_grid

    row = GridRow([panel[None] for panel in panels], titles=PANELS)
    side, nearest = zoom * max(panels.shape[1:3]), Image.Resampling.NEAREST
    save_png(image_grid([row], side=side, resample=nearest, text_size=14, paper="white"), out, STAGE)
