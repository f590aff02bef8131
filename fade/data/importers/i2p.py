"""I2P (Inappropriate Image Prompts, arXiv 2211.05105): the official table ``i2p_benchmark.csv``, its part
``nudity_benchmark.csv`` of SPM, or ESD's copy ``unsafe-prompts4703.csv``, as prompts.csv.

The whole has 4,703 prompts, 854 of them with a nudity above 0 percent."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fade.data.prompts import Prompt, PromptTable, Seeds, read_prompts, select_prompts
from fade.errors import UsageError
from fade.utils.files import is_free, json_text, write_folder
from fade.utils.hashing import sha256_of

STAGE = "import i2p"
COLUMNS = ("prompt", "seed", "guidance", "width", "height", "categories", "nudity_percentage", "hard")
NEEDED = ("guidance", "width", "height", "categories", "nudity", "hard")
"""What a table with seeds must hold beside prompts, as `fade.data.prompts.SPELLINGS` names them."""
TABLE, RECORD = "prompts.csv", "import.json"
ROWS = 4703
LICENCE = "MIT"
LICENCE_SOURCE = "the data set's card, AIML-TUDA/i2p; an earlier card named GPL-3.0"


@dataclass(frozen=True)
class I2POptions:
    """What is taken of the table."""

    category: str = ""
    """One of I2P's seven alone; empty: all."""
    nude: bool = False
    """Only prompts with a nudity above 0 percent."""
    seeds: Seeds = "table"
    """rows: of a table without seeds, row i (from 0) gets the seed i."""
    lenient: bool = False
    """Leave out rows without a prompt, and record them."""


def import_i2p(file: Path, out: Path, options: I2POptions | None = None) -> dict[str, Any]:
    """Read a table and write ``out/prompts.csv`` and ``out/import.json``, both or neither. Returns what
    import.json holds.

    Raises UsageError for a table that `read_prompts` refuses or that lacks a column, and for an ``out`` that
    is taken; UnknownNameError for a category; StorageError."""
    options = options or I2POptions()
    _check_out(out)
    table = read_prompts(file, STAGE, seeds=options.seeds, lenient=options.lenient)
    _check_columns(file, table)
    chosen = select_prompts(table.prompts, STAGE, category=options.category, nude=options.nude)
    body = prompts_csv(chosen)
    written = {TABLE: hashlib.sha256(body.encode()).hexdigest()}
    summary = {**_summary(file, table, chosen, options), "written": written}
    files = {TABLE: body, RECORD: json_text(summary)}
    write_folder(out, files, stage=STAGE, action="name another folder with --out.")
    return summary


def prompts_csv(prompts: Sequence[Prompt]) -> str:
    """The normalised table, one row a prompt, in order; what a prompt does not have is an empty cell."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in prompts:
        values = (one.guidance, one.width, one.height, ", ".join(one.categories), one.nudity)
        hard = "" if one.hard is None else int(one.hard)
        writer.writerow([one.text, one.seed, *map(_cell, values), hard])
    return stream.getvalue()


def duplicates(prompts: Sequence[Prompt]) -> dict[str, int]:
    """Rows whose prompt, or whose prompt and seed, stood in an earlier row. They stay: each is a picture."""
    texts = Counter(one.text for one in prompts)
    pairs = Counter((one.text, one.seed) for one in prompts)
    return {"prompt": texts.total() - len(texts), "prompt_and_seed": pairs.total() - len(pairs)}


def _cell(value: float | int | str | None) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return "" if value is None else str(value)


def _check_out(out: Path) -> None:
    if not is_free(out):
        kind = "is there, and not empty" if out.is_dir() else "is no folder"
        what, action = f"{out} {kind}: it is not replaced.", "name another folder with --out, or remove it."
        raise UsageError(what, stage=STAGE, action=action)


def _check_columns(file: Path, table: PromptTable) -> None:
    if table.seeds == "rows":
        return
    if missing := [name for name in NEEDED if name not in table.columns]:
        what = f"{file} is no table of I2P's: it has no column of {', '.join(missing)}."
        action = "name i2p_benchmark.csv, nudity_benchmark.csv or unsafe-prompts4703.csv."
        raise UsageError(what, stage=STAGE, action=action)


def _layout(columns: Mapping[str, str]) -> str:
    """Whose column names they are."""
    seed = columns.get("seed", "")
    names = {"sd_seed": "official", "evaluation_seed": "esd", "seed": "prompts.csv"}
    return names.get(seed, "without seeds")


def _summary(file: Path, table: PromptTable, chosen: Sequence[Prompt], options: I2POptions) -> dict[str, Any]:
    left_out = [{**asdict(one), "why": "no prompt"} for one in table.empty]
    total = len(table.prompts) + len(table.empty)
    categories = Counter(name for one in chosen for name in one.categories)
    return {
        "set": "i2p",
        "layout": _layout(table.columns),
        "file": {"name": file.name, "bytes": file.stat().st_size, "sha256": sha256_of(file)},
        "columns": {"recognised": dict(table.columns), "ignored": list(table.ignored)},
        "options": asdict(options),
        "seeds": table.seeds,
        "rows": {
            "table": total,
            "whole": total == ROWS,
            "written": len(chosen),
            "filtered": len(table.prompts) - len(chosen),
        },
        "left_out": left_out,
        "nude": sum((one.nudity or 0) > 0 for one in chosen),
        "hard": sum(bool(one.hard) for one in chosen),
        "categories": dict(categories.most_common()),
        "duplicates": duplicates(chosen),
        "sizes": {
            "other_than_512": sum((one.width, one.height) not in ((512, 512), (None, None)) for one in chosen)
        },
        "licence": {"name": LICENCE, "source": LICENCE_SOURCE},
    }
