"""What does each text path carry: SDXL's two encoders and pooled vector, SD3's CLIPs, T5 and pooled vector?

1. The base, without any training: pictures of some concepts where one path alone has the prompt and the
others have the null prompt's values (`only PATH`), and where all but one have it (`all but PATH`); `whole`
and `none` are the controls. The judge's top-1 of each. Guidance is against the whole null prompt throughout.
2. Erased models: an adapter of each method and target, trained as `fade run` trains it (left alone: nothing),
and again with each path left alone: every prompt of the training that names the target has the null prompt's
values there, so the training never reads what the path holds of it. Its other prompts (neighbours, words)
stay whole, so a null space, which is fixed by them too, may still weigh the path. Each model is judged
prompted whole, as `fade run` does, and on its target by the views of part 1: what comes back?

Each number is a cell of --out, written as soon as it is measured: a call with the same settings measures what
is missing, and may name further targets and methods.

    python bench/text_paths.py --world sdxl --out bench/results/text-paths-sdxl.json
    python bench/text_paths.py --world sd3 --out bench/results/text-paths-sd3.json
    python bench/text_paths.py --world sd3 --method esd/x --targets panda --set evaluate.rest_concepts=0
    --out trial.json
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from esd import PARAMS, accuracy, open_world, world_items

from fade.errors import UsageError
from fade.evaluation.evaluate import rest_sample
from fade.models.base import DiffusionModel
from fade.models.conditioning import Conditioning
from fade.run.context import RunContext
from fade.run.resolve_params import method_overrides, resolve
from fade.utils.files import write_json
from fade.utils.hashing import fingerprint
from fade.utils.progress import log_lines, on_progress

TARGETS = ("panda", "green heart", "crying cat")
METHODS = ("nullspace/hinge", "esd/x")
MEASURED = ("A_er", "A_adj", "A_heldout", "A_rest", "ERB")
NOTHING = "nothing"
"""In a cell's key: no path was left alone."""
Cell = Callable[[], dict[str, Any]]
"""Measures the numbers of one cell."""


def views_of(paths: Collection[str]) -> dict[str, frozenset[str]]:
    """Name of a view -> the paths that have the prompt in it. No view is there twice: of two paths, `all but`
    the first is `only` the second."""
    every = frozenset(paths)
    views = {"whole": every, "none": frozenset[str]()}
    views |= {f"only {path}": frozenset({path}) for path in paths}
    for path in paths:
        if every - {path} not in views.values():
            views[f"all but {path}"] = every - {path}
    return views


@contextmanager
def null_paths(
    base: DiffusionModel,
    paths: Collection[str],
    null_prompt: str,
    which: Callable[[str], bool] = lambda prompt: True,
) -> Iterator[None]:
    """Within it, ``base`` encodes every prompt of ``which`` with the null prompt's values on ``paths``; with
    no path it is left as it is."""
    if not paths:
        yield
        return
    encode = base.encode_batch

    def encode_batch(prompts: Sequence[str]) -> Conditioning:
        rows = encode([null_prompt, *prompts])
        null, *others = (rows[i : i + 1] for i in range(len(rows)))
        for i, prompt in enumerate(prompts):
            for path in paths if which(prompt) else []:
                others[i] = others[i].with_path(base.text_paths[path], null)
        return others[0].join(*others[1:])

    base.encode_batch = encode_batch  # type: ignore[method-assign]
    try:
        with base.no_embeddings():
            yield
    finally:
        del base.encode_batch


def names_target(target: str, names: Sequence[str]) -> Callable[[str], bool]:
    """Whether a prompt names the target, as a word or words, and no longer name of ``names`` that holds its
    ("cat" in "grinning cat")."""
    longer = [name for name in names if name != target and _has(name, target)]

    def which(prompt: str) -> bool:
        return _has(prompt, target) and not any(_has(prompt, name) for name in longer)

    return which


def _has(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def judge_view(run: RunContext, concepts: Sequence[str], view: frozenset[str]) -> dict[str, float]:
    """Concept -> the judge's top-1 (percent) by the denoiser as it is now, prompted by the view's paths."""
    base = run.models.base
    with null_paths(base, base.text_paths.keys() - view, run.params.sampler.negative_prompt):
        return dict(zip(concepts, accuracy(run, list(concepts)), strict=True))


def train_adapter(run: RunContext, neighborhood: Any, left_alone: str) -> Path:
    """The adapter of the run's method, trained with one path left alone ("": none)."""
    from fade.training.loop import train
    from tasks.stages.train import write_job

    # the header names the path, and so does the job's key: else one training would be taken for another
    facts = {"untrained_text_path": left_alone} if left_alone else {}
    job = write_job(run, neighborhood, facts)
    if left_alone:
        job = job.model_copy(update={"out": run.folder / f"without-{left_alone}"})
    which = names_target(run.target, run.vocabulary.names)
    paths = [left_alone] if left_alone else []
    with null_paths(run.models.base, paths, run.params.sampler.negative_prompt, which):
        return train(job, base=run.models.base)


def judge_original(run: RunContext) -> dict[str, Any]:
    """The target's top-1 by each view, by the denoiser as it is now."""
    views = views_of(run.models.base.text_paths)
    return {"views": {name: judge_view(run, [run.target], view)[run.target] for name, view in views.items()}}


def judge_erased(run: RunContext, left_alone: str) -> dict[str, Any]:
    """One erased model: its metrics prompted whole, and its target's top-1 by each view."""
    from fade.run.worlds import load_adapter
    from tasks.stages.evaluate import evaluate_adapter
    from tasks.stages.mine import mine

    neighborhood = mine(run)
    adapter = train_adapter(run, neighborhood, left_alone)
    numbers = evaluate_adapter(run, neighborhood, adapter).numbers
    lora = load_adapter(run, adapter)
    lora.merge()
    try:
        views = judge_original(run)
    finally:
        lora.remove()
    return {**{key: _measured(numbers[key]) for key in ("metrics", "base_metrics")}, **views}


def _measured(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Those of MEASURED that are numbers: without concepts of the rest there is no A_rest."""
    values = {name: metrics.get(name) for name in MEASURED}
    return {name: value for name, value in values.items() if value is not None and np.isfinite(value)}


def cells_of(
    first: RunContext, concepts: Sequence[str], erased: Mapping[tuple[str, str], RunContext]
) -> dict[str, Cell]:
    """Key of a cell -> what measures it: the base's views of the concepts, those of the targets, then the
    erased models. erased: (method, target) -> its run."""
    paths = first.models.base.text_paths
    cells: dict[str, Cell] = {
        f"base | {name}": partial(judge_view, first, concepts, view) for name, view in views_of(paths).items()
    }
    cells |= {f"original | {target}": partial(judge_original, run) for (_, target), run in erased.items()}
    for (method, target), run in erased.items():
        for left_alone in ("", *paths):
            key = f"{method} | {target} | {left_alone or NOTHING}"
            cells[key] = partial(judge_erased, run, left_alone)
    return cells


def measure(
    cells: Mapping[str, Cell],
    settings: Mapping[str, Any],
    out: Path,
    on_one_line: Callable[[Mapping[str, Any]], str] | None = None,
) -> dict[str, Any]:
    """Measure the cells that ``out`` lacks, print each ``on_one_line`` (`shown`), and return the content of
    ``out``. Raises UsageError for a file of other settings."""
    result: dict[str, Any] = {**settings, "cells": {}}
    if out.is_file():
        result = json.loads(out.read_text(encoding="utf-8"))
        if other := [key for key in settings if result.get(key) != settings[key]]:
            what = f"{out} was measured with other settings ({', '.join(other)})."
            raise UsageError(what, stage="bench", action="name another file with --out.")
    for i, (key, cell) in enumerate(cells.items()):
        state = "known" if key in result["cells"] else "measured"
        if state == "measured":
            result["cells"][key] = cell()
            out.parent.mkdir(parents=True, exist_ok=True)
            write_json(out, result)
        line = (on_one_line or shown)(result["cells"][key])
        print(f"[{i + 1}/{len(cells)}] {key}: {line} ({state})", flush=True)
    return result


def shown(value: Mapping[str, Any]) -> str:
    """A cell on one line."""
    if "views" not in value:
        return f"top-1 {np.mean(list(value.values())):.1f} % of {len(value)} concepts"
    views = "  ".join(f"{name} {percent:.0f}" for name, percent in value["views"].items())
    metrics = "".join(f"{name} {percent:.1f}  " for name, percent in value.get("metrics", {}).items())
    return f"{metrics}target: {views}"


def main() -> None:
    """Both parts of one world."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", default="", help="of params.yaml; without it the default one")
    parser.add_argument("--concepts", type=int, default=20, help="how many the base's views are judged on")
    parser.add_argument("--targets", nargs="*", default=list(TARGETS), help="none: the base alone")
    parser.add_argument("--method", dest="methods", action="append", default=[], metavar="NAME/VARIANT")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    target = (args.targets or TARGETS)[0]
    first = open_world(args.world, args.set, target, args.runs_dir)
    base = first.models.base
    if len(base.text_paths) == 1:
        parser.error(f"{base.FAMILY} has one text path; name a world of another family with --world.")

    erased: dict[tuple[str, str], RunContext] = {}
    for method in args.methods or METHODS:
        items = [*method_overrides(method), *args.set]
        params = resolve(PARAMS, world_items(args.world, items))
        erased |= {(method, name): first.with_params(params, name) for name in args.targets}
    concepts = rest_sample(first.vocabulary, [], args.concepts, first.params.evaluate.seed)
    first.models.judge.require([*concepts, *args.targets])
    settings = {
        "world": args.world,
        "family": base.FAMILY,
        "base_sha256": base.sha256,
        "params": fingerprint(first.params.run_fields()),
        "overrides": args.set,
        "concepts": concepts,
        "images_per_concept": first.params.evaluate.images_per_concept,
    }
    try:
        with on_progress(log_lines(sys.stderr)):
            measure(cells_of(first, concepts, erased), settings, args.out)
    except UsageError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
