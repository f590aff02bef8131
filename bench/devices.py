"""The same cells of the benchmark measured on two devices, side by side: how far may a record mix them?

fade bench --home bench/again --methods "..." --targets "..." --seeds 0    # on the other device; needs a copy
of bench/tuned.yaml python bench/devices.py --other bench/again --out bench/results/devices.json"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fade.benchmark.metrics import value_of
from fade.benchmark.record import read_record
from fade.benchmark.tables import number

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


def pairs(ours: Path, other: Path) -> list[dict[str, Any]]:
    """One row a cell that both folders hold under the same key: each number as ours and as the other's."""
    rows = []
    for path in sorted((other / "cells").glob("*/*.json")):
        here, there = read_record(ours / "cells" / path.relative_to(other / "cells")), read_record(path)
        if here is None or there is None:
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
    out = ["| method | target | " + " | ".join(NUMBERS) + " |", "|---|---|" + "--:|" * len(NUMBERS)]
    for row in rows:
        cells = []
        for name, values in row["numbers"].items():
            shown = [number(value, DIGITS.get(name, 1)) for value in values]
            cells.append(shown[0] if shown[0] == shown[1] else f"**{shown[0]} / {shown[1]}**")
        out.append(f"| `{row['arm']}` | {row['target']} | " + " | ".join(cells) + " |")
    return out


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, default=Path("bench"))
    parser.add_argument("--other", type=Path, default=Path("bench/again"))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows = pairs(asked.home, asked.other)
    print("\n".join(table(rows)))
    if asked.out:
        command = f"python bench/devices.py --other {asked.other}"
        asked.out.write_text(
            json.dumps({"command": command, "rows": rows}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
