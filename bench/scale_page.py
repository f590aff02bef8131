"""The goals of bench/scale.py, and the tables of docs/scale.md: what is measured there, what is an estimate,
and by which formula."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fade.utils.text import markdown_table

HOME = Path(__file__).resolve().parents[1]
PAGE, RESULTS = HOME / "docs" / "scale.md", HOME / "bench" / "results"
RECORD = HOME / "bench" / "record" / "benchmark.json"
BEGIN, END = (
    "<!-- begin: python bench/scale.py --estimate -->",
    "<!-- end: python bench/scale.py --estimate -->",
)
MOST_MS, UNEVEN, MOST_WORK = 50.0, 0.10, 1.02
METHOD = "nullspace/hinge"
"""The default: whose training is estimated."""
ADAPTED = 4
"""Latents of a training step of it that go through the adapted model (its train.batch_target); the others are
the teacher's."""
MINED, JUDGED, GROUPS = 8, 24, 1 + 5 + 5 + 12
"""Pictures a mined concept, a judged one; judged concepts: target, neighbours, held-out, rest."""
BASES = {"sd15": "SD 1.5, 512 px", "sdxl": "SDXL, 1024 px"}
SETS = {"Stanford Dogs": (120, 3), "ImageNet-1k": (1000, 4)}
"""Data set -> concepts, and targets of the paper's protocol."""
DEVICES = {"A100": 312, "H200": 989}
"""GPU -> TFLOP/s of dense matrices in bf16, by its maker."""
REACHED = 0.4
"""Share of that speed which a denoiser reaches: an assumption."""
GPUS = 8


def goals(result: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """(goal, what was found, whether it is met) of each part that ``result`` has."""
    found: list[tuple[str, str, bool]] = []
    for row in result.get("neighbours", []):
        # the slowest is what else the machine does: 0.1 ms of work took 90
        goal = f"neighbours of one target among {row['concepts']:,} in at most {MOST_MS:.0f} ms (median)"
        text = f"median {row['median_ms']:g} ms, slowest of {row['n']} {row['slowest_ms']:g} ms"
        found.append((goal, text, row["median_ms"] <= MOST_MS))
    if work := result.get("shared"):
        whole, killed = work["undisturbed"], work["killed"]
        off = uneven(whole["pictures"])
        workers = whole["workers"]
        found.append(
            (f"work of {workers} processes within {UNEVEN:.0%} of even", f"{off:.1%} off", off <= UNEVEN)
        )
        alive = all(code == 0 for code in killed["exit_codes"][killed["killed"] :])
        goal = f"what {killed['killed']} killed of {workers} had left is done by the others, the same bytes"
        text = "the same" if killed["same_bytes"] else "another"
        found.append((goal, text, killed["same_bytes"] and whole["same_bytes"] and alive))
        for name, run in (("undisturbed", whole), ("killed", killed)):
            share = sum(run["latents"]) / work["latents"]
            goal = f"work at most {MOST_WORK:g} times the needed, {name}"
            found.append((goal, f"{share:.4f} times", share <= MOST_WORK))
    return found


def uneven(pictures: list[int]) -> float:
    """How far the process that is farthest from an even share is from it, as a part of that share."""
    even = sum(pictures) / len(pictures)
    return max(abs(one - even) for one in pictures) / even


def overhead(flow: dict[str, Any]) -> float:
    """Seconds of a run that are no pictures, training or judging: the mean of those that were timed."""
    spent = [run["seconds"]["total"] - sum(run["computing_seconds"].values()) for run in flow["runs"]]
    return float(sum(spent) / len(spent))


def tables(
    result: dict[str, Any], record: dict[str, Any], speed: dict[str, Any], flow: dict[str, Any]
) -> str:
    """The part of the page between BEGIN and END.

    result: of bench/scale.py; record: of the benchmark; speed: of bench/speed.py; flow: whole runs on a
    GPU."""
    rows = [[goal, found, "met" if met else "**missed**"] for goal, found, met in goals(result)]
    if not result.get("shared"):
        rows.append(["work shared by 8 processes", "not measured yet", ""])
    lines = markdown_table(["goal", "measured", ""], rows, range(3))
    if not result.get("counted"):
        return "\n".join(lines)
    cost = record["arms"][METHOD]["spread"]
    latents, steps = cost["unet_samples"]["mean"], cost["unet_calls"]["mean"] / 2  # student's and teacher's
    factor = speed["flops"]["adapter_step"]["gflop"] / speed["flops"]["forward"]["gflop"]
    adapted = ADAPTED * steps
    passes = latents + adapted * (factor - 1)
    numbers: list[tuple[str, str, str]] = []
    for name, title in BASES.items():
        one = result["counted"][name]
        numbers += [
            (f"{title}: forward pass of one latent", f"{one['forward_tflop']:.2f} TFLOP", "counted"),
            (f"{title}: decoding", f"{one['decode_tflop']:.2f} TFLOP", "counted"),
            (
                f"{title}: one picture",
                f"{picture(one):.1f} TFLOP",
                f"2 x {one['steps']} x forward + decoding",
            ),
        ]
    numbers += [
        (f"training one target by {METHOD}", f"{latents:,.0f} latents", f"measured; {adapted:,.0f} adapted"),
        ("forward and backward of an adapted one", f"{factor:.2f} forward passes", "measured (speed.json)"),
        (
            "the training",
            f"{passes:,.0f} forward passes",
            f"{latents:,.0f} + {adapted:,.0f} x {factor - 1:.2f}",
        ),
    ]
    start = overhead(flow)
    numbers.append(("start and bookkeeping of a run", f"{start:.0f} s", f"measured on an {flow['device']}"))
    for device, peak in DEVICES.items():
        what = f"estimate: {REACHED:.0%} of the {peak} that its maker states for bf16"
        numbers.append((device, f"{peak * REACHED:.0f} TFLOP/s", what))
    lines += ["", *markdown_table(["number", "value", "what it is"], numbers, (0, 2)), ""]
    for name, title in BASES.items():
        lines += [f"### {title}", "", *hours(result["counted"][name], passes, start)]
    return "\n".join(lines).rstrip()


def picture(one: dict[str, Any]) -> float:
    """TFLOP of a picture."""
    return float(2 * one["steps"] * one["forward_tflop"] + one["decode_tflop"])


def hours(one: dict[str, Any], passes: float, start: float) -> list[str]:
    """The table of one base; all its hours are estimates. start: seconds of a run's own."""
    head = [f"{device}, hours" for device in DEVICES] + [f"{GPUS} x {device}, hours" for device in DEVICES]
    train, each = passes * one["forward_tflop"], picture(one)

    def row(stage: str, formula: str, tflop: float, parts: int, runs: int = 0) -> list[str]:
        one_gpu = [(tflop / (peak * REACHED) + runs * start) / 3600 for peak in DEVICES.values()]
        several = [time / min(GPUS, parts) for time in one_gpu]
        return [stage, formula, *map(time_of, [*one_gpu, *several])]

    rows = [
        row("train one target", "forward passes x forward", train, 1),
        row("evaluate one target", f"2 x {GROUPS} x {JUDGED} pictures", 2 * GROUPS * JUDGED * each, GPUS),
    ]
    for title, (concepts, targets) in SETS.items():
        rows.append(row(f"{title}: mine", f"{concepts:,} x {MINED} pictures", concepts * MINED * each, GPUS))
        for number, which in ((targets, "the paper's targets"), (concepts, "every concept a target")):
            before = min(concepts, number * GROUPS)
            tflop = number * train + (before + number * GROUPS) * JUDGED * each
            formula = (
                f"{number:,} x (start + train) + ({before:,} + {number:,} x {GROUPS}) x {JUDGED} pictures"
            )
            rows.append(row(f"{title}: {which}", formula, tflop, number, number))
    return [*markdown_table(["stage", "formula", *head], rows, (0, 1)), ""]


def time_of(hours: float) -> str:
    """Two digits that count."""
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def load(path: Path) -> dict[str, Any]:
    """A result; empty where it has not been measured."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def page() -> str:
    """docs/scale.md with its tables as the results have them now."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    results = (load(RESULTS / f"{name}.json") for name in ("speed", "gpu-flow"))
    made = tables(load(RESULTS / "scale.json"), load(RECORD), *results)
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


def write_page() -> Path:
    """Write `page`."""
    PAGE.write_text(page(), encoding="utf-8")
    return PAGE
