"""Generate pictures with the original model, a registered version, or an adapter file."""

from __future__ import annotations

import io
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from fade.errors import AdapterError, UsageError
from fade.generation.picture_checks import require_finite
from fade.models.prompts import require_whole
from fade.models.sampling import sample
from fade.run.context import RunContext
from fade.run.worlds import load_adapter
from fade.utils import progress
from fade.utils.files import result_file, storage_error, write_whole
from fade.utils.hashing import sha256_of
from fade.utils.seeds import consecutive_seeds

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

STAGE = "generate"
PNG = b"\x89PNG\r\n\x1a\n"
ELSEWHERE = "name another file with --out."


def generate(
    run: RunContext, prompt: str, model: str, n: int, seed: int, out: Path, *, gate: bool = False
) -> float:
    """Write ``n`` pictures of ``prompt`` as one PNG grid; picture i starts from the noise of seed + i.

    model: ``base``, a registered ``NAME/VERSION`` (or NAME, ``models:/...``), or the path of an adapter.
    ``gate``: the adapter acts as much as the prompt means its concept (fade/adapters/gating.py). Returns how
    strongly the adapter acted, 1 without a gate. Raises UsageError for a gate without an adapter and for a
    prompt that the base does not read whole; BaseModelError, AdapterError for latents that are not finite;
    StorageError before any work for an ``out`` that is no file."""
    result_file(out, ".png", STAGE, PNG)
    adapter = erased_adapter(model, run, "generate --gate") if gate else adapter_file(model, run)

    def on_progress(done: int, total: int) -> None:
        progress.report("generate", done, total, prompt)

    base, strength, seeds = run.models.base, 1.0, consecutive_seeds(seed, n)
    require_whole(base, [prompt, run.params.sampler.negative_prompt], STAGE)
    with ExitStack() as stack:
        if adapter is not None:
            lora = load_adapter(run, adapter)
            stack.callback(lora.remove)
            lora.merge()  # as in the evaluation, whose pictures the cache may hold
            if gate:
                from fade.adapters.gating import gated, gates

                (strength,) = gates(base, [prompt], concept_of(adapter), run.params.sampler.prompt)
                stack.enter_context(gated(lora, strength))
        latents = sample(base, [prompt] * n, seeds, run.params.sampler, on_progress)
        require_finite(latents, [prompt] * n, STAGE, sha256_of(adapter) if adapter else "")
        pixels = base.decode(latents)
    _save_grid(pixels, out)
    return strength


def concept_of(adapter: Path) -> str:
    """The erased concept that an adapter's header names. Raises AdapterError when it names none."""
    from fade.adapters.adapter_file import read_provenance

    concept = read_provenance(adapter).get("concept", "")
    if not concept:
        action = "use an adapter that `fade run` made."
        raise AdapterError(f"{adapter}: its header names no concept.", stage="load adapter", action=action)
    return concept


def adapter_file(model: str, run: RunContext) -> Path | None:
    """The adapter of ``NAME/VERSION``, verified by the team's keys and witness, or of a path; None for
    ``base``. Raises BaseModelError when the base draws otherwise here than where a version was made."""
    if model == "base":
        return None
    if model.endswith(".safetensors"):
        return Path(model)
    from tasks.registry.lineage import recorded_self_tests
    from tasks.registry.trust import Trust
    from tasks.registry.versions import fetch, load_version, open_version

    trust = Trust.of(run.params.signing, run.root)
    if Path(model).is_dir():
        return load_version(model, run.runs, trust)
    snapshot, version = open_version(model, run.runs, trust)
    adapter, recorded = fetch(snapshot, version, run.runs), recorded_self_tests(snapshot, version)
    if recorded:
        _ = run.models.base  # tested when it is loaded
        run.models.self_tests.require_as_recorded(recorded, model)
    return adapter


def erased_adapter(model: str, run: RunContext, stage: str) -> Path:
    """As ``adapter_file``, for what only an erased model can do. Raises UsageError for ``base``."""
    adapter = adapter_file(model, run)
    if adapter is None:
        what = f"fade {stage} needs an adapter; the original model has none."
        raise UsageError(what, stage=stage.split()[0], action="name an erased model with --model.")
    return adapter


def _save_grid(pixels: np.ndarray, out: Path, columns: int = 8, gap: int = 2) -> None:
    """uint8 (n, H, W, 3) as one PNG with ``columns`` pictures a row. Raises StorageError."""
    from PIL import ImageOps

    from fade.reporting.image_grid import GridRow, image_grid

    rows = [GridRow([pixels[i : i + columns]]) for i in range(0, len(pixels), columns)]
    sheet = image_grid(rows, side=max(pixels.shape[1:3]), enlarge=False, gap=gap, paper="white")
    save_png(ImageOps.expand(sheet, gap, "white"), out, STAGE)


def save_png(picture: Image.Image, out: Path, stage: str) -> None:
    """Write a picture as PNG. Raises StorageError when it cannot be written."""
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, out, stage, ELSEWHERE) from error
    write_whole(out, stream.getvalue(), stage=stage)
