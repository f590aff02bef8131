"""Names are the field's terms: what words were replaced by them is no identifier any more."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPLACED = {
    "Ahead",
    "Arm",
    "Asked",
    "Claim",
    "Course",
    "Draws",
    "Judged",
    "Keeper",
    "Ledger",
    "Link",
    "Mesh",
    "Meter",
    "PHRASINGS",
    "SEEN",
    "Studio",
    "Workshop",
    "_Asked",
    "again",
    "aside",
    "asked",
    "borrowed",
    "canvas",
    "claims",
    "drawn",
    "filmstrip",
    "foresee",
    "gone",
    "heard",
    "hold",
    "hold_still",
    "hood",
    "hushed",
    "keeper",
    "launched_ahead",
    "ledger",
    "look",
    "look_ahead",
    "looked",
    "mosaic",
    "open_ahead",
    "quiet",
    "repeatable",
    "rerun",
    "said",
    "say",
    "seen",
    "settle",
    "shop",
    "start_ahead",
    "studio",
    "told",
    "toothless",
    "trios",
    "twin",
    "unheard",
    "unseen",
    "wanted",
    "work_off",
    "workoff",
}
"""Left: the words that MLflow's tags, JSON fields and printed sentences hold, which are interfaces, and those
in the bodies of the losses (``kept``), which stay as they are."""


def identifiers(source: str) -> set[str]:
    """Names that a module binds, uses or passes; strings, comments and docstrings are not among them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            found.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found |= {*node.name.split("."), node.asname or ""}
    return found


@pytest.mark.parametrize("package", ["fade", "flows", "tasks"])
def test_no_replaced_word_is_an_identifier(repo: Path, package: str) -> None:
    files = sorted((repo / package).rglob("*.py"))
    assert files
    used = {
        path.relative_to(repo).as_posix(): identifiers(path.read_text(encoding="utf-8")) for path in files
    }
    assert {path: sorted(names & REPLACED) for path, names in used.items() if names & REPLACED} == {}


def test_control_a_replaced_word_is_seen() -> None:
    source = "import x.twin\ndef hood(shop=1, *, told):\n    said = a.asked(wanted=2)\n"
    source += "    return 'heard'  # unseen\n"
    assert identifiers(source) & REPLACED == {"twin", "hood", "shop", "told", "said", "asked", "wanted"}


def test_no_file_is_longer_than_300_lines(repo: Path) -> None:
    """Functions of a screen, files of a sitting."""
    files = [path for package in ("fade", "flows", "tasks") for path in (repo / package).rglob("*.py")]
    lengths = {
        path.relative_to(repo).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in files
    }
    assert {name: length for name, length in lengths.items() if length > 300} == {}
