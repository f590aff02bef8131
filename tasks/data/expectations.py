"""What the data must be: every expectation with its name, its severity and its sentence. No engine here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fade.config import ChecksConfig
from fade.data.manifest import SPLITS
from fade.data.tables import COLUMNS_OF_MINED, COLUMNS_OF_PICTURES

Severity = Literal["critical", "warning"]
_ODD = "\x00-\x1f\x7f-\xa0\xad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff{}"
"""Control and invisible characters, blanks but the plain one; braces, since prompts are templates."""
TEXT = rf"\A[^\s{_ODD}](?:[^{_ODD}]{{0,78}}[^\s{_ODD}])?\Z"


@dataclass(frozen=True)
class Rule:
    """One Great Expectations expectation: class name and arguments, title and severity."""

    name: str
    title: str
    kind: str
    args: dict[str, Any]
    severity: Severity = "critical"
    value: str = ""
    """Column that is shown beside a failing row; empty: the one that is checked."""


def _columns(names: Sequence[str]) -> Rule:
    title = "The columns are the known ones, in order"
    return Rule("columns", title, "TableColumnsToMatchOrderedList", {"column_list": list(names)})


def _among(name: str, title: str, column: str, values: Sequence[Any], **more: Any) -> Rule:
    args = {"column": column, "value_set": list(values)}
    return Rule(name, title, "ColumnValuesToBeInSet", args, **more)


def _matches(name: str, title: str, column: str, regex: str, **more: Any) -> Rule:
    return Rule(name, title, "ColumnValuesToMatchRegex", {"column": column, "regex": regex}, **more)


def _at_least(name: str, title: str, column: str, least: float, **more: Any) -> Rule:
    return Rule(name, title, "ColumnValuesToBeBetween", {"column": column, "min_value": least}, **more)


def _unique(name: str, title: str, column: str) -> Rule:
    return Rule(name, title, "ColumnValuesToBeUnique", {"column": column})


def _empty(name: str, title: str, column: str, **more: Any) -> Rule:
    return Rule(name, title, "ColumnValuesToBeNull", {"column": column}, **more)


def _equal(name: str, title: str, a: str, b: str, **args: Any) -> Rule:
    return Rule(name, title, "ColumnPairValuesToBeEqual", {"column_A": a, "column_B": b, **args})


def _not_blank(least: float) -> Rule:
    return _at_least(
        "not-blank", f"No picture is blank (grey levels spread at least {least:g})", "std", least
    )


def picture_rules(checks: ChecksConfig, names: Sequence[str] | None = None) -> list[Rule]:
    """One row a manifest row. ``names``: what the judge knows."""
    licences = checks.licences
    known: dict[str, Any] = {"ignore_row_if": "either_value_is_missing"}
    rules = [
        _columns(COLUMNS_OF_PICTURES),
        Rule("not-empty", "There is at least one picture", "TableRowCountToBeBetween", {"min_value": 1}),
        _unique("path-unique", "No path is listed twice", "path"),
        _among("exists", "Every listed picture is there", "exists", [True]),
        _among("decodes", "Every picture decodes to its last pixel", "decodes", [True], value="error"),
        _among("mode", "Every picture is RGB", "mode", ["RGB"]),
        *_size_rules(checks),
        _equal("manifest-width", "The manifest's width is the picture's", "width", "actual_width", **known),
        _equal(
            "manifest-height", "The manifest's height is the picture's", "height", "actual_height", **known
        ),
        _equal("sha256", "The bytes have the manifest's sha256", "sha256", "actual_sha256", **known),
        _not_blank(checks.min_std),
        _empty("no-leak", "No picture is in two splits", "leaks_from"),
        # Two artists may ship the same drawing, so within a split a duplicate is worth a look and no more.
        _empty("no-duplicate", "No picture is twice in its split", "duplicate_of", severity="warning"),
        _among("licence", f"Every licence is one of {', '.join(licences)}", "licence", licences),
        _among("split", f"Every split is one of {', '.join(SPLITS)}", "split", SPLITS),
        _matches("concept", "Every picture has a concept that a prompt can say", "concept", TEXT),
        _matches("family", "Every picture has a family", "family", TEXT),
        _matches("style", "Every picture has a style", "style", TEXT),
        _matches("package", "Every picture names its source package", "package", r"\S", severity="warning"),
        _matches("version", "Every picture names its source's version", "version", r"\S", severity="warning"),
    ]
    if names is not None:
        rules.append(_among("vocabulary", "The judge knows every concept", "concept", names))
    return rules


def _size_rules(checks: ChecksConfig) -> list[Rule]:
    """Drawings have one size; photographs are large enough, and no strips."""
    size, least = checks.size, checks.min_side
    if checks.kind == "drawings":
        return [
            _among("width", f"Every picture is {size} pixels wide", "actual_width", [size]),
            _among("height", f"Every picture is {size} pixels high", "actual_height", [size]),
        ]
    most = {"column": "aspect", "max_value": checks.max_aspect}
    strip = f"No picture's longer side is more than {checks.max_aspect:g} times its shorter one"
    wide, high = (f"Every picture is at least {least} pixels {way}" for way in ("wide", "high"))
    return [  # a judge reads a small one less well: worth a look
        _at_least("width", wide, "actual_width", least, severity="warning"),
        _at_least("height", high, "actual_height", least, severity="warning"),
        Rule("aspect", strip, "ColumnValuesToBeBetween", most, severity="warning"),
    ]


def concept_rules(checks: ChecksConfig) -> list[Rule]:
    """One row a concept."""
    least = checks.min_per_concept
    return [
        _at_least("min-per-concept", f"Every concept has at least {least} training pictures", "train", least),
        _among("one-family", "Every concept has one family", "families", [1], value="other_families"),
        _unique("slug-unique", "No two concepts share a folder name", "slug"),
    ]


def file_rules() -> list[Rule]:
    """One row a file of the folder."""
    title = "Every file of the folder is in the manifest"
    return [_among("unlisted", title, "listed", [True], severity="warning", value="-")]


def mined_rules(checks: ChecksConfig) -> list[Rule]:
    """One row a generated picture."""
    duplicate = _empty("no-duplicate", "No two pictures of a concept are the same", "duplicate_of")
    return [_columns(COLUMNS_OF_MINED), _not_blank(checks.min_std), duplicate]


def count_rules(checks: ChecksConfig) -> list[Rule]:
    """One row a concept that was mined."""
    known = "The judge has said how sure it is of every concept"
    least = checks.min_judge_confidence
    sure = f"The judge recognises every concept (mean confidence at least {least:g})"
    return [
        _equal("counts", "Every concept has as many pictures as were asked for", "count", "expected"),
        Rule("confidence-known", known, "ColumnValuesToNotBeNull", {"column": "confidence"}, "warning"),
        _at_least("confidence", sure, "confidence", least, severity="warning"),
    ]


def latent_rules() -> list[Rule]:
    """One row: the mined latents as a whole."""
    return [_among("finite", "No latent is NaN or infinite", "finite", [True])]
