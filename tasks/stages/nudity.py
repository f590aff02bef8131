"""Count nudity (NudeNet, an optional extra) in what a list of prompts brings out of the original model and of
an erased one."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fade.errors import UsageError
from fade.generation.picture_checks import flat, require_finite, require_pictures
from fade.models.prompts import cut_prompts, cut_sentence, require_whole
from fade.models.sampling import sample
from fade.run.context import RunContext
from fade.run.worlds import load_adapter
from fade.utils import progress
from fade.utils.hashing import sha256_of
from fade.utils.notes import note
from fade.utils.reading import RECORD, read_text
from tasks.stages.generate import erased_adapter

STAGE = "nudity"
PROMPT, SEED = "prompt", "sd_seed"
"""The columns of I2P's table that are read (arXiv 2211.05105); the others are left alone."""


def nudity(run: RunContext, prompts: Path, model: str, limit: int | None = None) -> dict[str, Any]:
    """Draw one picture a prompt with the original model and with ``model``, from the same noise; count both.

    prompts: see ``read_prompts``; ``limit``: the first so many. Returns, for ``base`` and ``erased``, what
    ``count_nudity`` counts in all pictures, and under ``cut`` the prompts that the base does not read whole,
    which are named in a note, too. Raises EvaluationError when the extra is missing, before anything
    is drawn; UsageError; BaseModelError and AdapterError for pictures that are none."""
    from fade.evaluation.nudity import count_nudity

    prompts_and_seeds, adapter = read_prompts(prompts)[:limit], erased_adapter(model, run, STAGE)
    size = run.models.base.image_size
    # a missing extra is reported now, not after an hour of sampling
    count_nudity(np.zeros((1, size, size, 3), np.uint8), run.params.nudity.threshold)
    require_whole(run.models.base, [run.params.sampler.negative_prompt], STAGE)
    # named, not refused: I2P's longest are cut by every pipeline that is measured on them
    if cut := cut_prompts(run.models.base, [prompt for prompt, _ in prompts_and_seeds]):
        note(f"{STAGE}: {cut_sentence(run.models.base, cut)}")
    base = _count(run, prompts_and_seeds, 0)
    sha256 = sha256_of(adapter)
    lora = load_adapter(run, adapter)
    lora.merge()
    try:
        erased = _count(run, prompts_and_seeds, len(prompts_and_seeds), sha256)
    finally:
        lora.remove()
    return {"prompts": str(prompts), "model": model, "cut": cut, "base": base, "erased": erased}


def _count(
    run: RunContext, prompts_and_seeds: Sequence[tuple[str, int]], done: int, adapter: str = ""
) -> dict[str, Any]:
    """Batch by batch, so that thousands of pictures are never in memory at once; ``blank``: how many of them
    have one colour. Raises as `require_pictures`."""
    from fade.evaluation.nudity import count_nudity

    batches, blank, step = [], [], run.params.sampler.batch_size
    for start in range(0, len(prompts_and_seeds), step):
        prompts, seeds = map(list, zip(*prompts_and_seeds[start : start + step], strict=True))
        latents = sample(run.models.base, prompts, seeds, run.params.sampler)
        require_finite(latents, prompts, STAGE, adapter)
        pixels = run.models.base.decode(latents)
        blank.append(flat(pixels))
        batches.append(count_nudity(pixels, run.params.nudity.threshold))
        progress.report(STAGE, done + start + len(prompts), 2 * len(prompts_and_seeds), "pictures")
    of_prompt: dict[str, list[bool]] = {}
    for (prompt, _), one in zip(prompts_and_seeds, np.concatenate(blank), strict=True):
        of_prompt.setdefault(prompt, []).append(bool(one))
    require_pictures({prompt: np.array(some) for prompt, some in of_prompt.items()}, (), STAGE, adapter)
    return {**added(batches), "blank": int(np.concatenate(blank).sum())}


def added(batches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts of several batches as those of one; all were counted by the same detector."""
    sums = {key: sum(batch[key] for batch in batches) for key in ("total", "pictures", "n")}
    counts = {label: sum(batch["counts"][label] for batch in batches) for label in batches[0]["labels"]}
    return {**batches[0], **sums, "counts": counts}


def read_prompts(path: Path) -> list[tuple[str, int]]:
    """(prompt, seed) of each line of a text file, or of each row of a CSV as I2P's: ``prompt``, and
    ``sd_seed`` where there is one.

    Without seeds, prompt i starts from the noise of seed i. Raises UsageError for a file that is missing, no
    UTF-8 text, without a column of prompts, empty, or with a seed that is no whole number."""
    action = f"name a text file with a prompt a line, or a CSV with a column {PROMPT!r}."
    try:
        stream = io.StringIO(read_text(path, RECORD).removeprefix("\ufeff"), newline="")
        if path.suffix.lower() != ".csv":
            lines = [line.strip() for line in stream if line.strip()]
            rows = [(line, str(i)) for i, line in enumerate(lines)]
        else:
            table = csv.DictReader(stream)
            if PROMPT not in (table.fieldnames or ()):
                raise UsageError(f"{path} has no column {PROMPT!r}.", stage=STAGE, action=action)
            rows = [(row[PROMPT] or "", row.get(SEED) or str(i)) for i, row in enumerate(table)]
    except (OSError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read: {error}.", stage=STAGE, action=action) from None
    if not rows:
        raise UsageError(f"{path} holds no prompt.", stage=STAGE, action=action)
    for number, (_, seed) in enumerate(rows, 1):
        if not seed.strip().isdecimal() or len(seed) > 20:
            what = f"{path}, prompt {number}: the seed {seed[:40]!r} is no whole number."
            raise UsageError(what, stage=STAGE, action=f"mend its {SEED}, or leave the column out.")
    return [(prompt, int(seed)) for prompt, seed in rows]
