"""The model card: what the adapter does and why, how well, its state, how to load and remake it. Markdown
with a YAML head."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fade.evaluation.metrics import report_rows
from fade.reporting.html import findings, headline, metric_table, number
from fade.reporting.report_data import ROLES
from fade.reporting.status_line import state

GRIDS = {
    "release": "The original, each champion alone, and the release",
    "before-after": "Before and after, the same seeds",
    "neighbourhood": "The neighbourhood",
    "heatmap": "Cosines of the neighbourhood",
    "confusion": "What the target's pictures are judged to be",
    "losses": "Losses",
}
"""Pictures that may lie beside a card, and what they show."""


def card(
    result: Mapping[str, Any],
    lineage: Mapping[str, Any],
    *,
    base_model: str,
    command: str,
    pictures: Sequence[str] = (),
) -> str:
    """The card's text. ``base_model``: directory or hub id as the params name it; ``command`` makes the
    adapter again.

    pictures: names of the files in ``pictures/`` beside the card; those of GRIDS are shown.
    The reason for the erasure is taken from the lineage (``request``), where there is one.
    """
    from huggingface_hub import ModelCardData

    target = str(result["target"])
    _, line = headline(result)
    parts_of = lineage.get("parts") or {}
    tags = ["concept-erasure", "lora", "text-to-image", f"method:{result['method']}"]
    head = ModelCardData(library_name="diffusers", base_model=base_model, tags=tags)
    missing = (
        "Other languages and attacks"
        if result.get("indirect")
        else "Paraphrases, other languages and attacks"
    )
    parts = [
        "---",
        head.to_yaml(),
        "---",
        "",
        f"# {plain(target)}, erased",
        "",
        plain(line),
        "",
        *(f"- {'yes' if f.holds else '**no**'}: {plain(f.text)}" for f in findings(result)),
        "",
        (
            "A LoRA adapter for one base model. With it, prompts for the target give something else; without "
            "it, the base is what it was."
        ),
        "",
        *state(),
        "## Why",
        "",
        _why(lineage, bool(parts_of)),
        "",
        *_parts(result, parts_of),
        "## Use",
        "",
        *_usage(base_model, str(result.get("targets", [target])[0])),
        "",
        "## Evidence",
        "",
        "Percent, with 95 % bootstrap intervals; the same seeds for the original and the erased model.",
        "",
        *_table(
            ("metric", "n", "original", "erased", "meaning"),
            [
                (
                    m["key"],
                    str(m["n"] or "—"),
                    _value(m["base"], m["base_interval"]),
                    _value(m["erased"], m["interval"]),
                    m["meaning"],
                )
                for m in metric_table(result)
            ],
        ),
        "",
        "What the target's pictures are judged to be now: "
        + "; ".join(f"{plain(str(e['becomes']))} {number(e['share'])} %" for e in result["confusion"])
        + ".",
        "",
        *_grids(pictures),
        "## Concepts",
        "",
        *_table(
            ("concept", "role", "n", "original %", "erased %"),
            [
                (str(e["concept"]), ROLES[e["role"]], str(e["n"]), number(e["base"]), number(e["erased"]))
                for e in result["per_concept"]
            ],
        ),
        "",
        "## Limits",
        "",
        f"- Measured on the prompts, seeds and judge of this run only. {missing} were not part of it.",
        "- The adapter is a file beside the base: whoever has the base can leave it out.",
        "- A target that turned into a neighbour counts as erased; see what it is judged to be, above.",
        "",
        "## Provenance",
        "",
        *_table(("what", "value"), _provenance(result, lineage)),
        "",
        "## Make it again",
        "",
        _from(lineage),
        "",
        *_fence("sh", command),
        "",
    ]
    return "\n".join(parts)


def _why(lineage: Mapping[str, Any], release: bool) -> str:
    request = lineage.get("request") or {}
    if facts_of_request := ", ".join(
        f"{key} {request[key]}" for key in ("id", "reason", "by") if request.get(key)
    ):
        return f"Request: {plain(facts_of_request)}."
    if release:
        return (
            "One adapter for all concepts that were to be erased; why each of them was, the cards of its "
            "parts say."
        )
    return "No request was recorded with this run."


def _parts(result: Mapping[str, Any], parts: Mapping[str, Any]) -> list[str]:
    """Of a release: what it is made of, and what adding up cost each concept."""
    if not parts:
        return []
    shown = report_rows(first_table=True)
    rows = [
        (
            concept,
            *(f"{number(one['alone'].get(m.name))} → {number(one['metrics'].get(m.name))}" for m, _ in shown),
        )
        for concept, one in result.get("parts", {}).items()
    ]
    made_of = [
        (label, ", ".join(one["concepts"]), one["adapter_sha256"][:12], one["lineage_sha256"][:12])
        for label, one in parts.items()
    ]
    return [
        "## Parts",
        "",
        *_table(("version", "erases", "adapter sha256", "record sha256"), made_of),
        "",
        (
            "Each concept with its champion alone, and in the release; percent, the same pictures, what "
            "other parts erase left out."
        ),
        "",
        *_table(("concept", *(row.column or m.title for m, row in shown)), rows),
        "",
    ]


def _grids(pictures: Sequence[str]) -> list[str]:
    files = {name.rpartition(".")[0]: name for name in sorted(pictures)}
    shown = [
        line
        for name, title in GRIDS.items()
        if name in files
        for line in (f"![{title}](pictures/{files[name]})", "")
    ]
    return ["## Grids", "", *shown] if shown else []


def _from(lineage: Mapping[str, Any]) -> str:
    """What the command starts from."""
    commit, data = lineage.get("code", {}).get("commit") or "not known", lineage.get("data", {}).get("md5")
    parts = ", where the parts above are the champions" if lineage.get("parts") else ""
    return (
        f"At commit {commit}, with the data of md5 {data}{parts}; the same base and libraries "
        "(`lineage.json`) give the same bytes:"
    )


def _usage(base_model: str, target: str) -> list[str]:
    code = "\n".join(
        (
            "from diffusers import StableDiffusionPipeline",
            "",
            f"pipe = StableDiffusionPipeline.from_pretrained({json.dumps(base_model, ensure_ascii=False)})",
            'pipe.load_lora_weights(".", weight_name="adapter.safetensors")',
            f"pipe({json.dumps('a ' + target, ensure_ascii=False)}).images[0]",
        )
    )
    return _fence("python", code)


def _provenance(result: Mapping[str, Any], lineage: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    code = lineage.get("code", {})
    dirty = {True: " (with uncommitted changes)", False: " (clean)"}.get(code.get("dirty"), "")
    return (
        ("adapter sha256", str(lineage.get("outputs", {}).get("adapter_sha256"))),
        ("base sha256", str(lineage.get("base", {}).get("sha256"))),
        ("judge sha256", str(lineage.get("judge", {}).get("sha256"))),
        ("data md5", str(lineage.get("data", {}).get("md5"))),
        ("params sha256", str(lineage.get("params", {}).get("sha256"))),
        ("code commit", f"{code.get('commit') or 'not known'}{dirty}"),
        ("method", str(result["method"])),
        ("seed", str(result["seed"])),
        (
            f"neighbours, {'trained on' if result.get('neighbours_trained', True) else 'only measured'}",
            ", ".join(result["neighbours"]),
        ),
        ("neighbours, held out", ", ".join(result["heldout"]) or "none"),
    )


def _value(value: float | None, interval: Sequence[float] | None) -> str:
    return number(value) + (
        f" ({number(interval[0])} to {number(interval[1])})" if value is not None and interval else ""
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *([plain(cell) for cell in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _fence(language: str, code: str) -> list[str]:
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", code, fence]


def plain(words: str) -> str:
    """A name as text: Markdown's own signs and HTML lose their meaning, line breaks go."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(words.split()))
