"""What the data must be: every expectation with its name, its severity and the sentence that the user reads.
No engine here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fade.data.tables import COLUMNS_OF_MINED, COLUMNS_OF_PICTURES
from fade.config import ChecksConfig
from fade.data.manifest import SPLITS

Severity = Literal["critical", "warning"]
# prompts are templates: no braces; no outer blanks
TEXT = r"^[^\s\x00-\x1f{}](?:[^\x00-\x1f{}]{0,78}[^\s\x00-\x1f{}])?$"


@dataclass(frozen=True)
class Rule:
    """One Great Expectations expectation: class name and arguments, and how it is told."""

    name: str
    title: str
    kind: str
    args: dict[str, Any]
    severity: Severity = "critical"
    value: str = ""
    """Column that is shown beside a failing row; empty: the one that is checked."""


def picture_rules(checks: ChecksConfig, names: Sequence[str] | None = None) -> list[Rule]:
    """One row a manifest row. ``names``: a vocabulary that the concepts must come from."""
    size, both = checks.size, "either_value_is_missing"
    rules = [
        Rule(
            "columns",
            "The columns are the known ones, in order",
            "TableColumnsToMatchOrderedList",
            {"column_list": list(COLUMNS_OF_PICTURES)},
        ),
        Rule("not-empty", "There is at least one picture", "TableRowCountToBeBetween", {"min_value": 1}),
        Rule("path-unique", "No path is listed twice", "ColumnValuesToBeUnique", {"column": "path"}),
        Rule("exists", "Every listed picture is "
                       "there", "ColumnValuesToBeInSet", {"column": "exists", "value_set": [True]}),
        Rule(
            "decodes",
            "Every picture decodes to its last pixel",
            "ColumnValuesToBeInSet",
            {"column": "decodes", "value_set": [True]},
            value="error",
        ),
        Rule("mode", "Every picture is "
                     "RGB", "ColumnValuesToBeInSet", {"column": "mode", "value_set": ["RGB"]}),
        Rule("width", f"Every picture is {size} pixels "
                      "wide", "ColumnValuesToBeInSet", {"column": "actual_width", "value_set": [size]}),
        Rule("height", f"Every picture is {size} pixels "
                       "high", "ColumnValuesToBeInSet", {"column": "actual_height", "value_set": [size]}),
        Rule(
            "manifest-width",
            "The manifest's width is the picture's",
            "ColumnPairValuesToBeEqual",
            {"column_A": "width", "column_B": "actual_width", "ignore_row_if": both},
        ),
        Rule(
            "manifest-height",
            "The manifest's height is the picture's",
            "ColumnPairValuesToBeEqual",
            {"column_A": "height", "column_B": "actual_height", "ignore_row_if": both},
        ),
        Rule(
            "sha256",
            "The bytes have the manifest's sha256",
            "ColumnPairValuesToBeEqual",
            {"column_A": "sha256", "column_B": "actual_sha256", "ignore_row_if": both},
        ),
        Rule(
            "not-blank",
            f"No picture is blank (grey levels spread at least {checks.min_std:g})",
            "ColumnValuesToBeBetween",
            {"column": "std", "min_value": checks.min_std},
        ),
        Rule("no-leak", "No picture is in two splits", "ColumnValuesToBeNull", {"column": "leaks_from"}),
        # Two artists may ship the same drawing, so within a split a duplicate is worth a look and no more.
        Rule("no-duplicate", "No picture is twice in its "
                             "split", "ColumnValuesToBeNull", {"column": "duplicate_of"}, "warning"),
        Rule(
            "licence",
            f"Every licence is one of {', '.join(checks.licences)}",
            "ColumnValuesToBeInSet",
            {"column": "licence", "value_set": list(checks.licences)},
        ),
        Rule(
            "split", "Every split is one of "
                     f"{', '.join(SPLITS)}", "ColumnValuesToBeInSet", {"column": "split", "value_set": list(SPLITS)}
        ),
        Rule(
            "concept", "Every picture has a concept that a prompt can "
                       "say", "ColumnValuesToMatchRegex", {"column": "concept", "regex": TEXT}
        ),
        Rule("family", "Every picture has a "
                       "family", "ColumnValuesToMatchRegex", {"column": "family", "regex": TEXT}),
        Rule("style", "Every picture has a "
                      "style", "ColumnValuesToMatchRegex", {"column": "style", "regex": TEXT}),
        Rule(
            "package",
            "Every picture names its source package",
            "ColumnValuesToMatchRegex",
            {"column": "package", "regex": r"\S"},
            "warning",
        ),
        Rule(
            "version",
            "Every picture names its source's version",
            "ColumnValuesToMatchRegex",
            {"column": "version", "regex": r"\S"},
            "warning",
        ),
    ]
    if names is not None:
        title = "Every concept is in the vocabulary"
        rules.append(Rule("vocabulary", title, "ColumnValuesToBeInSet", {"column": "concept", "value_set": list(names)}))
    return rules


def concept_rules(checks: ChecksConfig) -> list[Rule]:
    """One row a concept."""
    least = checks.min_per_concept
    return [
        Rule(
            "min-per-concept",
            f"Every concept has at least {least} training drawings",
            "ColumnValuesToBeBetween",
            {"column": "train", "min_value": least},
        ),
        Rule(
            "one-family",
            "Every concept has one family",
            "ColumnValuesToBeInSet",
            {"column": "families", "value_set": [1]},
            value="other_families",
        ),
        Rule("slug-unique", "No two concepts share a folder "
                            "name", "ColumnValuesToBeUnique", {"column": "slug"}),
    ]


def file_rules() -> list[Rule]:
    """One row a file of the folder."""
    title = "Every file of the folder is in the manifest"
    return [Rule("unlisted", title, "ColumnValuesToBeInSet", {"column": "listed", "value_set": [True]}, "warning", value="-")]


def mined_rules(checks: ChecksConfig) -> list[Rule]:
    """One row a generated picture."""
    return [
        Rule(
            "columns", "The columns are the known ones, in "
                       "order", "TableColumnsToMatchOrderedList", {"column_list": list(COLUMNS_OF_MINED)}
        ),
        Rule(
            "not-blank",
            f"No picture is blank (grey levels spread at least {checks.min_std:g})",
            "ColumnValuesToBeBetween",
            {"column": "std", "min_value": checks.min_std},
        ),
        Rule("no-duplicate", "No two pictures of a concept are the "
                             "same", "ColumnValuesToBeNull", {"column": "duplicate_of"}),
    ]


def count_rules(checks: ChecksConfig) -> list[Rule]:
    """One row a concept that was mined."""
    least = checks.min_judge_confidence
    return [
        Rule(
            "counts",
            "Every concept has as many pictures as were asked for",
            "ColumnPairValuesToBeEqual",
            {"column_A": "count", "column_B": "expected"},
        ),
        Rule(
            "confidence-known",
            "The judge has said how sure it is of every concept",
            "ColumnValuesToNotBeNull",
            {"column": "confidence"},
            "warning",
        ),
        Rule(
            "confidence",
            f"The judge recognises every concept (mean confidence at least {least:g})",
            "ColumnValuesToBeBetween",
            {"column": "confidence", "min_value": least},
            "warning",
        ),
    ]


def latent_rules() -> list[Rule]:
    """One row: the mined latents as a whole."""
    title = "No latent is NaN or infinite"
    return [Rule("finite", title, "ColumnValuesToBeInSet", {"column": "finite", "value_set": [True]})]
