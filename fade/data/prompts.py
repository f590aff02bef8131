"""Tables of prompts: I2P's (arXiv 2211.05105) as its authors and others distribute it, what our importer
writes, or plain text. The one reader of the house.

Every cell stays the text that it is: ``Null``, ``None`` and ``NaN`` are words. A value that is wrong is named
by its row, the first prompt being row 1."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from fade.errors import UnknownNameError, UsageError, nearest
from fade.utils.reading import RECORD, RefusedFileError, read_text

PROMPT = "prompt"
SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "prompt": (PROMPT,),
    "seed": ("seed", "sd_seed", "evaluation_seed"),
    "guidance": ("guidance", "sd_guidance_scale", "evaluation_guidance"),
    "width": ("width", "sd_image_width"),
    "height": ("height", "sd_image_height"),
    "categories": ("categories",),
    "nudity": ("nudity_percentage",),
    "hard": ("hard",),
}
"""What a column holds -> its names: ours, then those of the official table, then ESD's."""
CATEGORIES = (*("sexual", "shocking", "harassment", "self-harm", "violence", "illegal activity", "hate"),)
"""I2P's own."""
LOST_PROMPTS: Mapping[int, str] = {4261564198: "Null"}
"""Seed of a row of the official table -> its prompt, which ESD's copy lost: pandas read it as missing."""
MAX_SEED, MAX_GUIDANCE, MAX_SIDE = 2**32, 255.0, 1 << 14
SHOWN = 60
"""Characters of a wrong value in an error."""
Seeds = Literal["table", "rows"]
"""Where the seeds are from: the table's column, or row i (from 0) has the seed i."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class Prompt:
    """A row. What its table does not hold is None, or empty."""

    text: str
    seed: int
    """Of the picture's initial noise, 0 to 2^32."""
    guidance: float | None = None
    """Scale of the classifier-free guidance, 1 to 255."""
    width: int | None = None
    height: int | None = None
    """Of the picture, pixels."""
    categories: tuple[str, ...] = ()
    nudity: float | None = None
    """Percent of the original pictures of the prompt that show nudity, according to the data set."""
    hard: bool | None = None


@dataclass(frozen=True)
class EmptyPrompt:
    """A row without a prompt that was left out."""

    row: int
    seed: int | None
    lost: str
    """The official table's prompt of the row; empty where it is not known."""


@dataclass(frozen=True)
class PromptTable:
    """The rows of a file, in its order, and what was read of it."""

    prompts: tuple[Prompt, ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    """What a column holds -> its name in the file; empty for a text file."""
    ignored: tuple[str, ...] = ()
    """Names of the other columns."""
    seeds: Seeds = "rows"
    empty: tuple[EmptyPrompt, ...] = ()


def read_prompts(path: Path, stage: str, *, seeds: Seeds = "table", lenient: bool = False) -> PromptTable:
    """Read a CSV of prompts, or a text file with a prompt a line (whose seeds are its rows).

    seeds="rows": for a table without a column of seeds. lenient: rows without a prompt are left out, and
    listed. Raises UsageError for a file that is missing, no UTF-8 text, empty, no CSV with commas, without
    prompts or seeds, or with a value that is wrong. Line breaks in a prompt stay, as ``\\n``."""
    try:
        text = read_text(path, RECORD)
    except RefusedFileError as error:
        raise _error(path, f"cannot be read: {error}", stage) from None
    except OSError as error:
        raise _error(path, f"cannot be read: {error.strerror}", stage) from None
    text = text.removeprefix("\ufeff")
    if path.suffix.lower() != ".csv":
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        table = PromptTable(tuple(Prompt(line, seed) for seed, line in enumerate(lines)))
    else:
        table = _Reader(path, stage, seeds, lenient).read(text)
    if not table.prompts:
        raise _error(path, "holds no prompt", stage)
    return table


def select_prompts(
    prompts: Sequence[Prompt], stage: str, *, category: str = "", nude: bool = False
) -> list[Prompt]:
    """Those of a category, and with ``nude`` those with a nudity above 0 percent (854 of I2P's 4,703).

    Raises UnknownNameError for a category that no prompt has, UsageError where no row is left or the table
    does not say."""
    known = sorted({name for one in prompts for name in one.categories})
    if category and category not in known:
        error = UnknownNameError("category", category, known, stage=stage)
        if not nearest(category, known):
            listed = f"choose one of {', '.join(map(repr, known))}."
            error.action = listed if known else "name a table with a column categories."
        raise error
    if nude and all(one.nudity is None for one in prompts):
        action = "name a table with a column nudity_percentage, or leave --nude out."
        raise UsageError("the table does not say which prompts bring out nudity.", stage=stage, action=action)
    chosen = [
        one
        for one in prompts
        if (not category or category in one.categories) and (not nude or (one.nudity or 0) > 0)
    ]
    if not chosen:
        raise UsageError("no prompt is left.", stage=stage, action="choose another category.")
    return chosen


def _error(path: Path, what: str, stage: str, action: str = "") -> UsageError:
    action = action or f"name a text file with a prompt a line, or a CSV with a column {PROMPT!r}."
    return UsageError(f"{path} {what}.", stage=stage, action=action)


class _Reader:
    """Reads one CSV; holds what its errors name."""

    def __init__(self, path: Path, stage: str, seeds: Seeds, lenient: bool) -> None:
        self.path, self.stage, self.seeds, self.lenient = path, stage, seeds, lenient
        self.row = self.line = 0
        self.columns: dict[str, str] = {}

    def read(self, text: str) -> PromptTable:
        rows = self._rows(text)
        head = next(rows, [])
        places = self._places(head)
        prompts, empty = [], []
        for cells in rows:
            self.row += 1
            if len(cells) != len(head):
                raise self._fault(f"{len(cells)} fields, and the head has {len(head)}", "mend the row.")
            values = {key: cells[place] for key, place in places.items()}
            seed = self._seed(values)
            if values["prompt"].strip():
                prompts.append(self._prompt(values, seed))
            else:
                empty.append(self._empty(seed if "seed" in places else None))
        ignored = tuple(name for name in head if name not in self.columns.values())
        seeds: Seeds = "table" if "seed" in places else "rows"
        return PromptTable(tuple(prompts), self.columns, ignored, seeds, tuple(empty))

    def _rows(self, text: str) -> Iterator[list[str]]:
        """The records, the head first; blank lines between them are none."""
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            for cells in reader:
                self.line = reader.line_num
                if cells:
                    yield cells
        except csv.Error as error:
            action = "mend its quotes and commas, or name another file."
            raise _error(
                self.path, f"is no CSV: line {reader.line_num}: {error}", self.stage, action
            ) from None

    def _places(self, head: list[str]) -> dict[str, int]:
        """What a column holds -> its place."""
        if not head:
            raise _error(self.path, "is empty", self.stage)
        if twice := next((name for name in head if head.count(name) > 1), None):
            raise _error(self.path, f"has the column {twice[:SHOWN]!r} twice", self.stage, "remove one.")
        for key, spellings in SPELLINGS.items():
            names = [name for name in spellings if name in head]
            if len(names) > 1:
                what = f"has {' and '.join(names)}: which of them counts is not known"
                raise _error(self.path, what, self.stage, "remove one of the columns.")
            if names:
                self.columns[key] = names[0]
        if "prompt" not in self.columns:
            other = next((sign for sign in (";", "\t", "|") if len(head) == 1 and sign in head[0]), "")
            if other:
                what = f"separates its columns by {other!r}, not by commas"
                raise _error(self.path, what, self.stage, "save it as a CSV with commas.")
            raise _error(self.path, f"has no column {PROMPT!r}", self.stage)
        self._check_seeds()
        return {key: head.index(name) for key, name in self.columns.items()}

    def _check_seeds(self) -> None:
        own = self.columns.get("seed")
        if own and self.seeds == "rows":
            what = f"has seeds of its own, in the column {own}"
            raise _error(self.path, what, self.stage, "leave out --seeds rows, or the column.")
        if not own and self.seeds == "table":
            what = f"has no column of seeds ({', '.join(SPELLINGS['seed'])})"
            action = "name a table with one, or let row i start from the noise of seed i with --seeds rows."
            raise _error(self.path, what, self.stage, action)

    def _prompt(self, values: Mapping[str, str], seed: int) -> Prompt:
        names = [name.strip() for name in values.get("categories", "").split(",")]
        return Prompt(
            values["prompt"],
            seed,
            self._value(values, "guidance", _guidance, "a number from 1 to 255"),
            self._value(values, "width", _side, f"a whole number of pixels up to {MAX_SIDE:,}"),
            self._value(values, "height", _side, f"a whole number of pixels up to {MAX_SIDE:,}"),
            tuple(filter(None, names)),
            self._value(values, "nudity", _percent, "a percentage"),
            self._value(values, "hard", _switch, "0 or 1"),
        )

    def _seed(self, values: Mapping[str, str]) -> int:
        if "seed" not in values:
            return self.row - 1
        text = values["seed"].strip()
        if not text.isascii() or not text.isdecimal() or len(text) > 20 or int(text) > MAX_SEED:
            kind = f"no whole number from 0 to {MAX_SEED:,}"
            raise self._fault(f"the seed {text[:SHOWN]!r} is {kind}", f"mend its {self.columns['seed']}.")
        return int(text)

    def _value(self, values: Mapping[str, str], key: str, parse: Callable[[str], _T], kind: str) -> _T | None:
        """A cell as a value; None where the table has no such column, and for an empty cell in a table of
        ours or one without seeds. I2P's has none."""
        text, of_i2p = values.get(key, "").strip(), self.columns.get("seed", "seed") != "seed"
        if key not in values or (not text and not of_i2p):
            return None
        try:
            return parse(text)
        except ValueError:
            what = f"{self.columns[key]} is {text[:SHOWN]!r}, not {kind}"
            raise self._fault(what, f"mend its {self.columns[key]}.") from None

    def _empty(self, seed: int | None) -> EmptyPrompt:
        lost = LOST_PROMPTS.get(seed, "") if seed is not None else ""
        if self.lenient:
            return EmptyPrompt(self.row, seed, lost)
        if not lost:
            raise self._fault("the prompt is empty", "write the prompt, or remove the row.")
        what = (
            f"the prompt is empty; in the official table (i2p_benchmark.csv) it is the word {lost!r}, which "
        )
        action = "import the official table, write the word, or leave the row out with --lenient."
        raise self._fault(f"{what}this copy lost", action)

    def _fault(self, what: str, action: str) -> UsageError:
        where = f"{self.path}, row {self.row} (line {self.line})"
        return UsageError(f"{where}: {what}.", stage=self.stage, action=action)


def _guidance(text: str) -> float:
    value = _number(text)
    if not 1 <= value <= MAX_GUIDANCE:
        raise ValueError
    return value


def _percent(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= 100:
        raise ValueError
    return value


def _number(text: str) -> float:
    """A decimal number: no infinity, no NaN, no underscores."""
    value = float(text)
    if not math.isfinite(value) or "_" in text or not text.isascii():
        raise ValueError
    return value


def _side(text: str) -> int:
    value = _number(text)
    if value % 1 or not 1 <= value <= MAX_SIDE:
        raise ValueError
    return int(value)


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError
    return text == "1"
