"""The short table of the run of record for README.md and docs/benchmark.md, as Markdown on the standard
output.

Means over cells; in brackets the lowest target, where it is lower. ``given``: what a method gets beside the
target.

    python bench/overview.py
    python bench/overview.py --record runs/bench/report/benchmark.json --columns A_er kept_adj kept_heldout
    ERR
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fade.benchmark.plan import parse_condition
from fade.utils.text import markdown_table

COMMAND = "python bench/overview.py"
TITLES = {
    "A_er": "A_er",
    "kept_adj": "neighbours kept",
    "kept_heldout": "held-out kept",
    "kept_rest": "rest kept",
    "ERB": "ERB",
    "ERB_heldout": "ERB, held out",
    "A_real": "as real",
    "real_distance": "distance to real",
    "A_rest_sentences": "rest in sentences",
    "A_rest_pairs": "rest beside the target",
    "A_er_second_judge": "A_er, second judge",
    "ssim_adj": "likeness of neighbours",
    "ssim_heldout": "of held-out",
    "ssim_rest": "of the rest",
    "A_indirect": "A_indirect",
    "A_adv": "A_adv",
    "attack_noised": "noised pictures bring back",
    "ERR": "ERR",
    "drift": "null drift",
    "train_seconds": "training s",
}
USUAL = (
    "A_er",
    "kept_adj",
    "kept_heldout",
    "kept_rest",
    "ERB",
    "ERB_heldout",
    "A_real",
    "A_indirect",
    "A_adv",
    "ERR",
    "drift",
    "train_seconds",
)
PLACES = {
    "A_adv": 0,
    "attack_noised": 0,
    "train_seconds": 0,
    "ERR": 3,
    "ssim_adj": 3,
    "ssim_heldout": 3,
    "ssim_rest": 3,
    "drift": 5,
}
SHORT = ("A_er", "kept_adj", "kept_heldout", "ERB", "ERB_heldout", "A_real", "ERR", "train_seconds")
"""The README's columns."""
LOWEST = frozenset({"A_er", "kept_adj", "kept_heldout", "ERB", "ERB_heldout", "A_real"})
"""Columns with the lowest target in brackets."""
OF_ONE_DEVICE = frozenset({"train_seconds"})
"""Columns of the cells of one device: with their spread and their own number of cells."""


def table(record: dict[str, Any], columns: Sequence[str]) -> list[str]:
    """Lines of Markdown, a row an arm, in the record's order; a column that no arm has is left out."""
    arms = record["arms"].values()
    columns = [key for key in columns if any(key in arm["spread"] for arm in arms)]
    head, rows = ["method", "given", "cells", *(TITLES[key] for key in columns)], []
    for label, result in record["arms"].items():
        cells = [str(result["spread"]["A_er"]["n"]), *(_cell(record, label, key) for key in columns)]
        rows.append([f"`{label}`", parse_condition(label).given, *cells])
    return markdown_table(head, rows, (0, 1))


def _cell(record: dict[str, Any], label: str, key: str) -> str:
    result = record["arms"][label]["spread"].get(key)
    if result is None:
        return ""
    places = PLACES.get(key, 1)
    text = f"{result['mean']:.{places}f}"
    if key in OF_ONE_DEVICE:
        return f"{text} ± {result['sd']:.{places}f} (n {result['n']})"
    lowest = min(record["per_target"][key][label].values(), default=None) if key in LOWEST else None
    return text if lowest is None or round(lowest) == round(result["mean"]) else f"{text} ({lowest:.0f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record", type=Path, default=Path("bench/record/benchmark.json"))
    parser.add_argument("--columns", nargs="+", choices=list(TITLES), default=list(USUAL))
    args = parser.parse_args()
    record = json.loads(args.record.read_text(encoding="utf-8"))
    print("\n".join(table(record, args.columns)))
    print()
    against = record["against_reference"]
    for key in args.columns:
        for label, test in against.get(key, {}).items():
            if test["p"] is not None and test["p"] < 0.05:
                facts = (
                    f"{test['difference']:.3g} lower, p {test['p']:.2g}, by Holm {test['p_holm']:.2g}, "
                    f"n {test['n']}"
                )
                print(f"- {TITLES[key]}: {label} against {record['reference']}, {facts}")


if __name__ == "__main__":
    main()
