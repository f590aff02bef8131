"""Count nudity (NudeNet, an optional extra) in what a list of prompts brings out of the original model and of
an erased one, by one of several protocols."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fade.data.prompts import Prompt, PromptTable, Seeds, select_prompts
from fade.data.prompts import read_prompts as read_table
from fade.data.vocabulary import slug
from fade.evaluation.nudity_pictures import STAGE, PictureSpec, alike, pictures_of, require_sizes
from fade.evaluation.nudity_protocols import LABELS, OURS, SAMPLER, NudityProtocol, nudity_protocol
from fade.evaluation.nudity_protocols import unused_settings as unused_keys
from fade.generation.picture_checks import flat, require_finite, require_pictures
from fade.models.capabilities import DDIM
from fade.models.prompts import cut_prompts, cut_sentence, require_whole
from fade.models.sampling import pictures_at_once, solve
from fade.provenance.lineage import code_state
from fade.reporting.nudity import markdown
from fade.run.context import RunContext
from fade.run.worlds import load_adapter
from fade.utils import progress
from fade.utils.files import make_folder, write_json, write_whole
from fade.utils.hashing import fingerprint, sha256_of
from fade.utils.notes import note
from tasks.stages.generate import erased_adapter

SCORES, REPORT = "scores.json", "report.md"


@dataclass(frozen=True)
class NudityOptions:
    """Which prompts are drawn, and by which protocol."""

    protocol: str = OURS
    limit: int | None = None
    """The first so many of the chosen prompts."""
    seeds: Seeds = "table"
    category: str = ""
    nude: bool = False
    lenient: bool = False
    """Leave out rows without a prompt."""


def nudity(
    run: RunContext, prompts: Path, model: str, options: NudityOptions | None = None
) -> dict[str, Any]:
    """Draw the protocol's pictures of each prompt with the original model and with ``model``, from the same
    noise; count both.

    prompts: see `read_prompts`. Returns, for ``base`` and ``erased``, what ``count_nudity`` counts in all
    pictures, the protocol with the source of each value, and under ``cut`` the prompts that the base does not
    read whole, which are named in a note, too. The same, with the hashes of all that went in, is written
    below ``runs/nudity``: ``scores.json`` and ``report.md``. Raises EvaluationError when the extra is
    missing, before anything is drawn; UsageError, UnknownNameError; BaseModelError and AdapterError for
    pictures that are none; StorageError."""
    from fade.evaluation.nudity import count_nudity

    options = options or NudityOptions()
    protocol = nudity_protocol(options.protocol, run.params.nudity)
    table = read_prompts(prompts, options)
    chosen = _chosen(table, options)
    adapter = erased_adapter(model, run, STAGE)
    for key in unused_keys(options.protocol, run.params.nudity):
        note(f"{STAGE}: {key} is not used: protocol {protocol.name} has its own.")
    size = run.models.base.image_size
    # a missing extra is reported now, not after an hour of sampling
    count_nudity(np.zeros((1, size, size, 3), np.uint8), protocol.value("threshold"))
    pictures = pictures_of(chosen, protocol, run.params.sampler.guidance_scale, size)
    _check_base(run, pictures)
    # named, not refused: I2P's longest are cut by every pipeline that is measured on them
    if cut := cut_prompts(run.models.base, [one.text for one in chosen]):
        note(f"{STAGE}: {cut_sentence(run.models.base, cut)}")
    base = _count(run, protocol, pictures, 0)
    sha256 = sha256_of(adapter)
    lora = load_adapter(run, adapter)
    lora.merge()
    try:
        erased = _count(run, protocol, pictures, len(pictures), sha256)
    finally:
        lora.remove()
    result = {
        "prompts": str(prompts),
        "model": model,
        "protocol": protocol.to_json(),
        "seeds": table.seeds,
        "sampled": _summary(chosen, pictures),
        "left_out": [asdict(one) for one in table.empty],
        "cut": cut,
        "base": base,
        "erased": erased,
    }
    return {**result, **_write(run, prompts, sha256, options, result)}


def read_prompts(path: Path, options: NudityOptions | None = None) -> PromptTable:
    """`fade.data.prompts.read_prompts` with the options of this stage. Raises UsageError."""
    options = options or NudityOptions()
    return read_table(path, STAGE, seeds=options.seeds, lenient=options.lenient)


def _chosen(table: PromptTable, options: NudityOptions) -> list[Prompt]:
    prompts = select_prompts(table.prompts, STAGE, category=options.category, nude=options.nude)
    return prompts[: options.limit]


def _check_base(run: RunContext, pictures: Sequence[PictureSpec]) -> None:
    """The base reads the negative prompt whole and draws the sizes. Raises UsageError."""
    base = run.models.base
    require_whole(base, [run.params.sampler.negative_prompt], STAGE)
    # Transformers count positions, and SDXL is given the size: these would be drawn at the wrong one.
    free = DDIM in base.capabilities and not base.encode([""]).extra
    require_sizes(pictures, base.image_size, base.vae_factor, free=free, base=base.path)


def _count(
    run: RunContext, protocol: NudityProtocol, pictures: Sequence[PictureSpec], done: int, adapter: str = ""
) -> dict[str, Any]:
    """Batch by batch, so that thousands of pictures are never in memory at once; ``blank``: how many of them
    have one colour. Raises as `require_pictures`."""
    from fade.evaluation.nudity import count_nudity

    base, counts, of_prompt = run.models.base, [], dict[str, list[bool]]()
    labels, once = protocol.value("labels"), protocol.value("counting") == LABELS
    for batch in alike(pictures, pictures_at_once(base, run.params.sampler), base.image_size):
        latents = _sample(run, protocol, batch)
        require_finite(latents, [one.prompt for one in batch], STAGE, adapter)
        pixels = base.decode(latents)
        for one, blank in zip(batch, flat(pixels), strict=True):
            of_prompt.setdefault(one.prompt, []).append(bool(blank))
        counts.append(count_nudity(pixels, protocol.value("threshold"), labels, once=once))
        done += len(batch)
        progress.report(STAGE, done, 2 * len(pictures), "pictures")
    require_pictures({prompt: np.array(some) for prompt, some in of_prompt.items()}, (), STAGE, adapter)
    return {**added(counts), "blank": sum(map(sum, of_prompt.values()))}


@torch.inference_mode()
def _sample(run: RunContext, protocol: NudityProtocol, batch: Sequence[PictureSpec]) -> torch.Tensor:
    """Clean latents (B, C, h, w), float32 on the CPU, of pictures of one guidance and size."""
    base, first, steps = run.models.base, batch[0], protocol.value("steps")
    changes = {"guidance_scale": first.guidance, **({} if steps == SAMPLER else {"steps": steps})}
    sampler = run.params.sampler.model_copy(update=changes)
    cond = base.encode([one.prompt for one in batch])
    null = base.encode([sampler.negative_prompt]).expand(len(cond))
    channels, factor = base.latent_shape[0], base.vae_factor
    shape = (channels, first.height // factor, first.width // factor)
    seeds = [one.seed for one in batch]
    return solve(base, cond, null, seeds, sampler, shape=shape).float().cpu()


def added(batches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts of several batches as those of one; all were counted by the same detector."""
    sums = {key: sum(batch[key] for batch in batches) for key in ("total", "pictures", "n")}
    counts = {label: sum(batch["counts"][label] for batch in batches) for label in batches[0]["labels"]}
    return {**batches[0], **sums, "counts": counts}


def _summary(prompts: Sequence[Prompt], pictures: Sequence[PictureSpec]) -> dict[str, Any]:
    """Which pictures were drawn, in numbers."""
    sizes = Counter(f"{one.width}x{one.height}" for one in pictures)
    guidances = Counter(f"{one.guidance:g}" for one in pictures)
    return {
        "prompts": len(prompts),
        "pictures": len(pictures),
        "sizes": dict(sizes.most_common()),
        "guidance": dict(guidances.most_common()),
    }


def _write(
    run: RunContext, prompts: Path, adapter: str, options: NudityOptions, result: dict[str, Any]
) -> dict[str, Any]:
    """The lineage of the scores, and where they and their report lie. Raises StorageError."""
    sampler = run.params.sampler.model_dump(mode="json")
    lineage = {
        "prompts_sha256": sha256_of(prompts),
        "base_sha256": run.models.base.sha256,
        "adapter_sha256": adapter,
        "options": asdict(options),
        "sampler": sampler,
        "nudity": run.params.nudity.model_dump(mode="json"),
        "code": code_state(),
    }
    key = fingerprint({name: value for name, value in lineage.items() if name != "code"})[:12]
    folder = run.runs / STAGE / f"{slug(prompts.stem)}-{result['protocol']['name']}-{key}"
    make_folder(folder)
    where = {"lineage": lineage, "scores": str(folder / SCORES), "report": str(folder / REPORT)}
    write_json(folder / SCORES, {**result, **where})
    write_whole(folder / REPORT, markdown({**result, **where}), stage=STAGE)
    return where
