"""The numbers of the pages, from the record. `python bench/tables.py` writes them, and
tests/unit/test_numbers.py compares them.

A block that is written whole stands between two comments:

    <!-- begin: python bench/overview.py -->
    <!-- end: python bench/overview.py -->

A number within a sentence has a comment behind it, with its record, its place there and its format:

    98.4<!-- world: base.mean_top1; .1f --> %

A record is a file of bench/results, or `benchmark` (bench/record/benchmark.json), or `computed`
(`computed`). A place is keys and positions in lists, separated by dots. A format is Python's, or `time`
("8 min 49 s").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS, BENCHMARK = ROOT / "bench/results", ROOT / "bench/record/benchmark.json"
NUMBER = re.compile(
    r"(?P<shown>\d+ min \d+ s|-?\d[\d,]*(?:\.\d+)?)"
    r"(?P<comment><!-- (?P<record>[\w-]+): (?P<place>[^;]+); (?P<format>\S+) -->)"
)
MEASURED = re.compile(
    r"(?<![\w.\d-])(?:\d+ min \d+ s|\d[\d,]*(?:\.\d+)?(?= (?:%|s|min|h|MB|MiB|GFLOP/s|points?|tests)(?!\w))"
    r"|\d[\d,]*(?:\.\d+)?(?=%)|0\.\d{3}\b)"
)
"""What reads like a measurement: a number with a unit, or a share of three digits."""


@cache
def _record(name: str) -> Any:
    if name == "computed":
        return computed()
    path = BENCHMARK if name == "benchmark" else RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def value(record: str, place: str) -> Any:
    """What stands at a place of a record. Raises KeyError or IndexError where nothing does."""
    node = _record(record)
    for key in place.split("."):
        node = node[int(key)] if isinstance(node, list) else node[key]
    return node


def shown(number: float, spec: str) -> str:
    """The number in its format."""
    if spec == "time":
        minutes, seconds = divmod(round(number), 60)
        return f"{minutes} min {seconds:02d} s"
    return f"{number:{spec}}"


def filled(text: str) -> str:
    """The page with the numbers of the record in its sentences."""

    def number(match: re.Match[str]) -> str:
        return shown(value(match["record"], match["place"]), match["format"]) + match["comment"]

    return NUMBER.sub(number, text)


def marks(command: str) -> tuple[str, str]:
    """The comments around the block that a command writes."""
    return f"<!-- begin: {command} -->", f"<!-- end: {command} -->"


def with_block(text: str, command: str, block: str) -> str:
    """The page with another block. Raises ValueError for a page without one of this command."""
    begin, end = marks(command)
    before, found, rest = text.partition(begin)
    if not found or end not in rest:
        raise ValueError(f"the page has no block {begin}")
    return f"{before}{begin}\n{block}\n{end}{rest.partition(end)[2]}"


def unnamed(text: str) -> list[str]:
    """Measurements in a page's sentences that name no record, each with the words before it."""
    for command in re.findall(r"<!-- begin: (.+?) -->", text):
        text = with_block(text, command, "")
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`|\]\([^)]*\)", "", NUMBER.sub("", text))
    return [text[max(0, m.start() - 40) : m.end() + 12].replace("\n", " ") for m in MEASURED.finditer(text)]


def computed() -> dict[str, Any]:
    """What follows from several numbers of the record."""
    from tables import share_of_goals

    return {name: share_of_goals(_record(name)["rows"]) for name in ("targets", "targets-fade")}


def write(path: Path, blocks: Iterable[tuple[str, str]] = ()) -> None:
    """Fill a page: its blocks (command, text), then the numbers of its sentences."""
    text = path.read_text(encoding="utf-8")
    for command, block in blocks:
        text = with_block(text, command, block)
    path.write_text(filled(text), encoding="utf-8")
