"""Erase many targets with the defaults and one seed, and write the table of A_er, A_adj, A_heldout, A_rest
and ERB.

The defaults of params.yaml were chosen on TUNING; the reported targets are REPORTED, six of them in tight
families.

    python bench/targets.py --out bench/results/targets.json
    python bench/targets.py --world sdxl --targets panda tulip lemon --out bench/results/targets-sdxl.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

TUNING = (
    "koala",
    "pear",
    ("green apple"),
    "taxi",
    "bus",
    ("oncoming bus"),
    ("kissing cat"),
    ("blue heart"),
    ("purple heart"),
    "yellow heart",
    ("growing heart"),
    ("sparkling heart"),
    ("beaming face with smiling eyes"),
    ("waning gibbous moon"),
    "automobile",
    ("oncoming police car"),
)
REPORTED = (
    "panda",
    "tulip",
    "lemon",
    "octopus",
    "tractor",
    "red apple",
    ("crying cat"),
    ("cat with tears of joy"),
    ("green heart"),
    ("waxing gibbous moon"),
    ("oncoming taxi"),
    ("police car"),
    "grinning face",
    "face with tears of joy",
)
"""Where the base draws one of them, or its neighbours, too badly to begin with, the table says so: see
DRAWN."""
DRAWN = {"A_tar": 85.0, "A_adj": 95.0}
"""What the base must reach (%) on a target and on its neighbours before its erasure is held against the
goals: ERB counts A_adj itself, so what the base cannot draw no eraser can keep."""


def kept_rows(
    out: Path | None, targets: Sequence[str], overrides: list[str], world: str
) -> list[dict[str, Any]]:
    """What ``out`` holds of other targets under the same overrides in the same world: some targets can be
    measured again without the others."""
    if out is None or not out.is_file():
        return []
    earlier = json.loads(out.read_text(encoding="utf-8"))
    if (earlier["overrides"], earlier.get("world", "")) != (overrides, world):
        return []
    return [row for row in earlier["rows"] if row["target"] not in targets]


def main() -> None:
    """Run ``fade run`` once a target, each in a process of its own as a user would."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", nargs="*", default=list(REPORTED), help="or the word tuning")
    parser.add_argument("--runs-dir", default="runs")
    parser.add_argument("--world", default="", help="of params.yaml; empty: the default one")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    targets = TUNING if args.targets == ["tuning"] else args.targets
    rows = kept_rows(args.out, targets, args.set, args.world)
    for target in targets:
        extra = [part for item in args.set for part in ("--set", item)]
        extra += ["--world", args.world] if args.world else []
        command = [
            sys.executable,
            "-m",
            "flows.cli",
            "run",
            "--target",
            target,
            "--json",
            "--runs-dir",
            args.runs_dir,
            *extra,
        ]
        report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows = [row for row in rows if row["data_md5"] == report["data_md5"]]  # not of another world
        rows.append(report)
        m, b = report["metrics"], report["base_metrics"]
        pairs = "  ".join(f"{k[2:]} {b[k]:5.1f} -> {m[k]:5.1f}" for k in ("A_adj", "A_heldout", "A_rest"))
        print(
            f"{target:26} A_er {m['A_er']:5.1f}  {pairs}  ERB {m['ERB']:5.1f}  "
            f"{report['seconds']['total']:6.1f} s",
            flush=True,
        )
        if args.out:  # after each: a long list may be interrupted
            args.out.parent.mkdir(parents=True, exist_ok=True)
            content = {"tuning": TUNING, "world": args.world, "overrides": args.set, "rows": rows}
            args.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    erb = [row["metrics"]["ERB"] for row in rows]
    print(f"mean ERB {np.mean(erb):.1f}, lowest {min(erb):.1f}, n {len(erb)}")


if __name__ == "__main__":
    main()
