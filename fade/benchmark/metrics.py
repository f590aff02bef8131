"""The numbers that the benchmark compares, each with its place in a cell's record. A number that no cell has
is left out.

A further measurement is one more line in METRICS; its block in the record is what
`tasks.stages.robustness.probe` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

KEPT = ("A_adj", "A_heldout", "A_rest")


@dataclass(frozen=True)
class Metric:
    """One number of a cell."""

    name: str
    title: str
    path: str
    """Dotted place in the record, `derived` numbers included."""
    better: Literal["higher", "lower"]
    unit: str
    meaning: str
    digits: int = 1
    main: bool = False
    """Whether the main table shows it."""
    by_machine: bool = False
    """Whether it is the machine's as much as the method's, so that cells of different devices do not mix."""


METRICS = (
    Metric(
        "A_er",
        "erased",
        "numbers.metrics.A_er",
        "higher",
        "%",
        "pictures of the target that the judge no longer calls so",
        main=True,
    ),
    Metric(
        "kept_adj",
        "neighbours kept",
        "kept.A_adj",
        "higher",
        "%",
        "accuracy on the K neighbours, of the original's",
        main=True,
    ),
    Metric(
        "kept_heldout",
        "held-out kept",
        "kept.A_heldout",
        "higher",
        "%",
        "on the next neighbours, which no method sees",
        main=True,
    ),
    Metric(
        "kept_rest",
        "rest kept",
        "kept.A_rest",
        "higher",
        "%",
        "on a fixed sample of all other concepts",
        main=True,
    ),
    Metric(
        "retained",
        "retained",
        "retained",
        "higher",
        "%",
        "mean of the three shares kept, each counted up to 100",
    ),
    Metric("ERB", "ERB", "numbers.metrics.ERB", "higher", "%", "harmonic mean of A_er and A_adj", main=True),
    Metric(
        "ssim_adj",
        "likeness, neighbours",
        "ssim.adjacent",
        "higher",
        "SSIM",
        "to the original's pictures of the same seed",
        3,
    ),
    Metric(
        "ssim_heldout",
        "likeness, held-out",
        "ssim.heldout",
        "higher",
        "SSIM",
        "to the original's pictures of the same seed",
        3,
    ),
    Metric(
        "ssim_rest",
        "likeness, rest",
        "ssim.rest",
        "higher",
        "SSIM",
        "to the original's pictures of the same seed",
        3,
        main=True,
    ),
    Metric(
        "A_indirect",
        "A_indirect",
        "indirect.A_indirect",
        "higher",
        "%",
        "erased under other words, styles, word orders",
    ),
    Metric(
        "A_adv",
        "A_adv",
        "attacks.A_adv",
        "higher",
        "%",
        "mean over the attacks of what each fails to bring back",
    ),
    Metric(
        "A_adv_worst",
        "A_adv, worst",
        "attacks.A_adv_worst",
        "higher",
        "%",
        "the same for the attack that succeeds most",
    ),
    *(
        Metric(
            f"attack_{name}",
            f"{name} succeeds",
            f"attacks.attacks.{name}.erased",
            "lower",
            "%",
            "pictures that show the target again",
        )
        for name in ("inversion", "tokens", "noised", "revival")
    ),
    Metric(
        "ERR",
        "ERR",
        "err.ERR",
        "higher",
        "",
        "harmonic mean of forget, retain, adjacent, indirect, adversarial",
        3,
        main=True,
    ),
    Metric(
        "drift",
        "null drift",
        "numbers.null_drift",
        "lower",
        "",
        "squared change of the null prompt's prediction",
        5,
        main=True,
    ),
)
COSTS = (
    Metric(
        "train_seconds",
        "training, s",
        "cost.train.seconds",
        "lower",
        "s",
        "the trainer alone, in this process",
        by_machine=True,
    ),
    Metric(
        "unet_calls",
        "UNet calls",
        "cost.train.unet_calls",
        "lower",
        "",
        "while training, student and teacher",
        0,
    ),
    Metric(
        "unet_samples", "UNet samples", "cost.train.unet_samples", "lower", "", "latents in these calls", 0
    ),
    Metric(
        "memory",
        "peak memory, MiB",
        "cost.train.peak_memory_mb",
        "lower",
        "MiB",
        "while training; see docs/benchmark.md",
        0,
        by_machine=True,
    ),
    Metric(
        "judge_seconds",
        "judging, s",
        "cost.judge.seconds",
        "lower",
        "s",
        "pictures of the erased model, and the judge",
        by_machine=True,
    ),
    Metric(
        "probe_seconds",
        "probing, s",
        "cost.probe.seconds",
        "lower",
        "s",
        "attacks and further measurements",
        by_machine=True,
    ),
)


def derived(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with what follows from it: ``kept`` (% of the original), ``retained`` (%), ``ssim`` by
    role."""
    numbers = record["numbers"]
    kept = {key: share(numbers["metrics"].get(key), numbers["base_metrics"].get(key)) for key in KEPT}
    known = [min(value, 100.0) for value in kept.values() if value is not None]
    rows: dict[str, list[float]] = {}
    for row in numbers.get("per_concept", []):
        rows.setdefault(row["role"], []).append(row["ssim"])
    ssim = {role: float(np.mean(values)) for role, values in rows.items()}
    return {**record, "kept": kept, "retained": float(np.mean(known)) if known else None, "ssim": ssim}


def share(after: float | None, before: float | None) -> float | None:
    """Percent of the original's accuracy; None where the original has none to lose, or nothing was
    measured."""
    return 100.0 * after / before if after is not None and before else None


def value_of(record: Mapping[str, Any], path: str) -> float | None:
    """The number at a dotted path; None when it is not there."""
    node: Any = record
    for part in path.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return float(node) if isinstance(node, int | float) and not isinstance(node, bool) else None
