"""The same cells of the benchmark measured on two devices, side by side: how far may a record mix them?

python bench/devices.py --out bench/results/devices.json    # the archived record's (`fade bench
--report-only` pulls it) fade bench --home runs/again --methods "..." --targets "..." --seeds 0    # on
another device; needs a copy of bench/tuned.yaml python bench/devices.py --home bench --other runs/again"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fade.benchmark.archive import read_archive
from fade.benchmark.metrics import value_of
from fade.benchmark.record import read_record
from fade.benchmark.tables import number
from fade.utils.text import markdown_table

COMMAND = "python bench/devices.py"
NUMBERS = {
    "A_er": "numbers.metrics.A_er",
    "A_adj": "numbers.metrics.A_adj",
    "A_heldout": "numbers.metrics.A_heldout",
    "A_rest": "numbers.metrics.A_rest",
    "A_indirect": "indirect.A_indirect",
    "A_adv": "attacks.A_adv",
    "ERR": "err.ERR",
}
DIGITS = {"ERR": 3}


def cells_of(home: Path) -> list[dict[str, Any]]:
    """The finished cells below a home of the benchmark, by file name."""
    records = (read_record(path) for path in sorted((home / "cells").glob("*/*.json")))
    return [record for record in records if record is not None]


def pairs(ours: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a cell that both hold under the same key: each number as ours and as the other's."""
    rows, by_key = [], {record["key"]: record for record in ours}
    for there in others:
        if (here := by_key.get(there["key"])) is None:
            continue
        values = {
            name: [value_of(record, where) for record in (here, there)] for name, where in NUMBERS.items()
        }
        devices = [record["made"]["device"] for record in (here, there)]
        rows.append(
            {
                "arm": here["inputs"]["arm"],
                "target": here["inputs"]["target"],
                "devices": devices,
                "numbers": values,
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown; one value where both agree in every digit shown, else ``ours / other``."""
    lines = []
    for row in rows:
        cells = []
        for name, values in row["numbers"].items():
            shown = [number(value, DIGITS.get(name, 1)) for value in values]
            cells.append(shown[0] if shown[0] == shown[1] else f"**{shown[0]} / {shown[1]}**")
        lines.append([f"`{row['arm']}`", row["target"], *cells])
    return markdown_table(["method", "target", *NUMBERS], lines, (0, 1))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--archive", type=Path, default=Path("bench/archive/cells.jsonl.xz"), help="unless --other is given"
    )
    parser.add_argument("--home", type=Path, default=Path("bench"))
    parser.add_argument("--other", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.other:
        ours, others = cells_of(args.home), cells_of(args.other)
    else:
        sets = read_archive(args.archive).cells
        ours, others = sets["cells"], sets["again"]
    rows = pairs(ours, others)
    print("\n".join(table(rows)))
    if args.out:
        command = (
            f"python bench/devices.py --home {args.home} --other {args.other}"
            if args.other
            else "python bench/devices.py"
        )
        args.out.write_text(json.dumps({"command": command, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
