"""An evaluation, a neighbourhood and pictures as the report gets them, small and with numbers that no two
places share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fade.reporting.report_data import Report, Row

TARGET = "panda"
NEIGHBOURS = ["koala", "bear"]
HELDOUT = ["hamster"]
REST = ["tulip", "taxi"]
NAMES = [TARGET, *NEIGHBOURS, *HELDOUT, *REST]
ROLES = {
    TARGET: "target",
    "koala": "adjacent",
    "bear": "adjacent",
    "hamster": "heldout",
    "tulip": "rest",
    "taxi": "rest",
}


@dataclass
class Neighborhood:
    target: str = TARGET
    neighbours: list[str] = field(default_factory=lambda: list(NEIGHBOURS))
    heldout: list[str] = field(default_factory=lambda: list(HELDOUT))
    similarities: dict[str, float] = field(
        default_factory=lambda: {"koala": 0.91, "bear": 0.83, "hamster": 0.77, "tulip": 0.21, "taxi": 0.12}
    )
    targets: list[str] = field(default_factory=lambda: [TARGET])
    names: list[str] = field(default_factory=lambda: list(NAMES))
    cache_key: str = "c" * 64

    def cosines(self, names: Sequence[str]) -> np.ndarray:
        values = np.random.default_rng(0).uniform(0.1, 0.9, (len(NAMES), len(NAMES)))
        matrix = (values + values.T) / 2
        np.fill_diagonal(matrix, 1.0)
        index = [self.names.index(name) for name in names]
        return matrix[np.ix_(index, index)]


def pictures(n: int = 3, seed: int = 0, side: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def result(**changes: Any) -> dict[str, Any]:
    scores = {
        "panda": (95.83, 4.17),
        "koala": (91.67, 87.5),
        "bear": (100.0, 95.8),
        "hamster": (79.2, 75.1),
        "tulip": (99.1, 98.2),
        "taxi": (97.3, 96.4),
    }
    return {
        "target": TARGET,
        "method": "fade",
        "seed": 3,
        "neighbours": NEIGHBOURS,
        "heldout": HELDOUT,
        "rest": REST,
        "metrics": {
            "A_er": 97.91,
            "A_adj": 93.42,
            "A_heldout": 77.13,
            "A_rest": 96.31,
            "ERB": 95.62,
            "ERB_heldout": 86.28,
            "A_real": 91.66,
        },
        "base_metrics": {
            "A_tar": 98.73,
            "A_adj": 94.04,
            "A_heldout": 79.25,
            "A_rest": 97.16,
            "A_real": 95.84,
        },
        "intervals": {
            "A_er": [88.81, 99.92],
            "A_adj": [89.13, 96.64],
            "A_heldout": [61.35, 88.76],
            "A_rest": [91.47, 99.08],
            "ERB": [90.59, 97.7],
            "ERB_heldout": [75.42, 93.55],
            "A_real": [80.27, 99.01],
        },
        "base_intervals": {
            "A_tar": [90.11, 99.81],
            "A_adj": [90.32, 97.43],
            "A_heldout": [63.54, 90.65],
            "A_rest": [92.76, 99.87],
            "A_real": [87.43, 99.95],
        },
        "n": {"per_concept": 24, "target": 24, "adjacent": 48, "heldout": 23, "rest": 47},
        "per_concept": [
            {
                "concept": name,
                "role": ROLES[name],
                "n": 24,
                "base": base,
                "erased": erased,
                "ssim": 0.5 + i / 17,
            }
            for i, (name, (base, erased)) in enumerate(scores.items())
        ],
        "confusion": [
            {"becomes": "koala", "count": 15, "share": 62.5},
            {"becomes": "panda", "count": 1, "share": 4.17},
        ],
        "base_confusion": [{"becomes": "panda", "count": 23, "share": 95.83}],
        "spatial_consistency": {"mean": 0.913, "lo": 0.874, "hi": 0.946, "n": 48, "role": "rest"},
        **changes,
    }


def history(steps: int = 6) -> list[dict[str, float]]:
    return [
        {"step": s, "loss": 1 / s, "erase": 0.5 / s, "lr": 1e-3 * (1 - s / 9), "grad_norm": 0.3}
        for s in range(1, steps + 1)
    ]


def lineage() -> dict[str, Any]:
    return {
        "schema": 1,
        "code": {"version": "0.1.0", "commit": "d" * 40, "dirty": False},
        "environment": {
            "python": "3.11.2",
            "platform": "Linux",
            "machine": "x86_64",
            "libraries": {"torch": "2.13.0", "dvc": None},
            "torch_threads": 2,
            "device": "cpu",
            "device_name": "cpu",
            "precision": "fp32",
            "world_size": 1,
        },
        "data": {"md5": "e" * 32 + ".dir", "files": {"emoji/a.png": "f" * 32}},
        "base": {"sha256": "1" * 64},
        "judge": {"sha256": "2" * 64},
        "params": {"values": {"train": {"steps": 6}}, "sha256": "3" * 64, "overrides": ["train.steps=6"]},
        "seeds": {"mine": 1000, "train": 3, "evaluate": 5000},
        "neighbourhood": {
            "target": TARGET,
            "neighbours": NEIGHBOURS,
            "heldout": HELDOUT,
            "cache_key": "c" * 64,
        },
        "inputs": {"before": {"base": "1" * 64}, "after": {"base": "1" * 64}, "unchanged": True},
        "outputs": {"adapter_sha256": "4" * 64},
        "orchestration": {"flow_run_id": None},
    }


CHECKS = [
    {
        "title": "Data checks",
        "success": False,
        "results": [
            {
                "name": "unique",
                "title": "No hash appears twice",
                "severity": "critical",
                "success": True,
                "observed": "9 of 9",
                "rows": [],
            },
            {
                "name": "enough",
                "title": "Enough drawings",
                "severity": "warning",
                "success": False,
                "observed": "2 of 6 fail",
                "rows": [{"row": "bear", "value": "4"}, {"row": "taxi", "value": "3"}],
                "unexpected": 2,
                "error": None,
            },
        ],
    }
]


def report(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "result": result(),
        "neighborhood": Neighborhood(),
        "rows": [
            Row(name, ROLES[name], pictures(seed=i), pictures(seed=i + 50))
            for i, name in enumerate(NAMES[:4])
        ],
        "mined": {name: pictures(1, seed=i)[0] for i, name in enumerate(NAMES[:4])},
        "history": history(),
        "checks": CHECKS,
        "lineage": lineage(),
        "seconds": {"pull": 1.24, "train": 75.2, "total": 76.44},
        "command": 'fade run --target "panda"',
    }
    return Report(**{**values, **changes})
