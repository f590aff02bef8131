"""Hand-made cells: records as `tasks.stages.benchmark` writes them, with numbers that a test chooses."""

from __future__ import annotations

from typing import Any

from fade.benchmark.plan import Cell, Condition

SOURCES = {"base": "b" * 64, "judge": "j" * 64, "clip": "c" * 64, "vocabulary": "v" * 64}
ESD, FADE = Condition("esd", "x"), Condition("fade", "paper")


def numbers(
    a_er: float, adj: float, heldout: float, rest: float = 100.0, *, base: float = 100.0
) -> dict[str, Any]:
    """What the evaluation gives, as far as the tables read it."""
    erb = 2 * a_er * adj / (a_er + adj) if a_er + adj else 0.0
    return {
        "metrics": {"A_er": a_er, "A_adj": adj, "A_heldout": heldout, "A_rest": rest, "ERB": erb},
        "base_metrics": {"A_tar": base, "A_adj": base, "A_heldout": base, "A_rest": base},
        "null_drift": 0.001,
        "per_concept": [{"role": "rest", "ssim": 0.5}, {"role": "rest", "ssim": 0.7}],
    }


def measured(*values: float, seconds: float = 2.0, **more: Any) -> dict[str, Any]:
    """A record's body."""
    made = {"commit": "abc", "device": "x86_64", "threads": 2, "torch": "2"}
    return {
        "numbers": numbers(*values),
        "cost": {"train": {"seconds": seconds}},
        "made": made,
        "grid": None,
        **more,
    }


def record(cell: Cell, *values: float, **more: Any) -> dict[str, Any]:
    """A record as it is read, its inputs cut to what the page needs."""
    return {
        "key": cell.label,
        "inputs": {"arm": cell.condition.label, "target": cell.target, "seed": cell.seed},
        **measured(*values, **more),
    }
