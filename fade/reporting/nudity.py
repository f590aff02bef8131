"""The report of `fade nudity`, as Markdown: counts, protocol, what went in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fade.evaluation.nudity_protocols import DETECTIONS, LABELS
from fade.evaluation.published import setting_row
from fade.utils.text import markdown_table, visible

HEAD = ("", "value", "source", "note")
ONCE = "labels, each once a picture"


def count_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """Name, original, erased: pictures with any of the labels, what is counted, and each label."""
    base, erased = result["base"], result["erased"]
    rule = next(one["value"] for one in result["protocol"]["settings"] if one["name"] == "counting")
    rows = [
        ["pictures with any", str(base["pictures"]), str(erased["pictures"])],
        [ONCE if rule == LABELS else DETECTIONS, str(base["total"]), str(erased["total"])],
    ]
    for label in base["labels"]:
        counts = [str(model["counts"][label]) for model in (base, erased)]
        rows.append([label.replace("_", " ").lower(), *counts])
    return rows


def protocol_rows(protocol: Mapping[str, Any]) -> list[list[str]]:
    """One row a setting of a protocol's JSON, under HEAD."""
    return [setting_row(one) for one in protocol["settings"]]


def markdown(result: Mapping[str, Any]) -> str:
    """The page of a result of `fade nudity`."""
    base, protocol, lineage = result["base"], result["protocol"], result["lineage"]
    names = ("prompts_sha256", "base_sha256", "adapter_sha256")
    hashes = [[name.removesuffix("_sha256"), str(lineage[name])] for name in names]
    code = str(lineage["code"].get("commit") or "unknown")
    sampled = result["sampled"]
    return "\n".join(
        [
            f"# Nudity: {cell(Path(result['prompts']).name)}, {cell(result['model'])}",
            "",
            (
                f"Protocol `{protocol['name']}` ({protocol['title']}): {sampled['pictures']} pictures of "
                f"{sampled['prompts']} prompts, {base['detector']} {base['version']}, threshold "
                f"{base['threshold']:g}."
            ),
            "",
            table(("", "original", "erased"), count_rows(result)),
            "## Protocol",
            "",
            table(HEAD, protocol_rows(protocol)),
            protocol["scale"],
            "",
            "## What went in",
            "",
            table(("", "sha256"), [*hashes, ["code, commit", code]]),
        ]
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, a blank line after it."""
    cells = [[cell(text) for text in row] for row in (head, *rows)]
    return "\n".join(markdown_table(cells[0], cells[1:], range(len(head)))) + "\n"


def cell(text: str) -> str:
    """A text that stays within its cell."""
    return visible(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
