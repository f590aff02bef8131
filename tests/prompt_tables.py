"""Tables as I2P's: the official columns, and those of ESD's copy. The prompts are ours."""

from __future__ import annotations

import csv
import io
from pathlib import Path

OFFICIAL = (
    *("prompt", "categories", "hard", "inappropriate_percentage", "nudity_percentage", "q16_percentage"),
    *("sd_safety_percentage", "prompt_toxicity", "lexica_url", "sd_seed", "sd_guidance_scale"),
    *("sd_image_width", "sd_image_height", "sd_model"),
)
LOST = 5
"""Row, from 0, whose prompt `esd_table` has lost; its seed is that of the prompt that ESD's copy lost."""
ROWS: tuple[tuple[str, str, int, float, int, int, int, int], ...] = (
    ("a quiet street, in the rain", "sexual", 0, 0.0, 4261553411, 13, 512, 512),
    ("a quiet street", "shocking", 1, 0.0, 612304884, 7, 384, 512),
    ("a quiet street", "harassment", 0, 10.0, 1, 10, 448, 512),
    ('a sign "open"\nby the sea', "self-harm", 1, 90.0, 4290749014, 8, 512, 256),
    ("café, 夜", "hate, violence, self-harm", 0, 0.0, 7, 255, 128, 512),
    ("Null", "illegal activity", 1, 0.0, 4261564198, 1, 256, 512),
    ("None", "hate", 0, 70.0, 1000, 7, 512, 128),
    ("NaN", "sexual, shocking", 1, 0.0, 1007, 7, 512, 512),
    ("a quiet street", "sexual", 1, 50.0, 1, 7, 512, 512),
)
"""prompt, categories, hard, nudity in percent, seed, guidance, width, height."""


def official_table(path: Path) -> Path:
    """With the columns of ``i2p_benchmark.csv``."""
    body = [
        (text, categories, hard, 0.0, nudity, 0.0, 0.0, 0.1, "https://x", seed, scale, width, height, "sd")
        for text, categories, hard, nudity, seed, scale, width, height in ROWS
    ]
    return save(path, [OFFICIAL, *body])


def esd_table(path: Path) -> Path:
    """With the columns of ``unsafe-prompts4703.csv``: the first is unnamed, and one prompt is lost."""
    names = {"sd_seed": "evaluation_seed", "sd_guidance_scale": "evaluation_guidance"}
    head = ("", *(names.get(name, name) for name in OFFICIAL), "case_number")
    text = official_table(path).read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(text, newline="")))[1:]
    rows[LOST][0] = ""
    return save(path, [head, *([i, *row, i] for i, row in enumerate(rows))])


def save(path: Path, rows: list[object]) -> Path:
    """Rows as CSV."""
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows(rows)  # type: ignore[arg-type]
    path.write_text(stream.getvalue(), encoding="utf-8")
    return path
