"""The model card: what the adapter does and why, how well, its state, how to load and remake it. Markdown
with a YAML head (``templates/card.md``). Its state is written anew later (`restated`), and a registry's
description holds it cut to its room (`describe`)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from fade.evaluation.metrics import at_path
from fade.reporting.page import render_template
from fade.reporting.report_data import ROLES
from fade.reporting.verdict import findings, headline, metric_rows

GRIDS = {
    "release": "The original, each champion alone, and the release",
    "before-after": "Before and after, the same seeds",
    "neighbourhood": "The neighbourhood",
    "heatmap": "Cosines of the neighbourhood",
    "confusion": "What the target's pictures are judged to be",
    "losses": "Losses",
    "interaction": "Which erasure is predicted to cost which concept how much",
}
"""Pictures that may lie beside a card, and what they show."""
ROOM = 5000
"""Characters of a description: MLflow's column, which PostgreSQL enforces and SQLite does not."""
UNDECIDED, NOT_AUDITED = "nothing was decided yet", "not audited"
_STATE = "State"
_GIVEN_UP = ("Concepts", "Use", "Provenance", "Grids", "Limits", "Make it again")
"""Sections of a card that a description does without, in this order, when it is too long."""


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
    The reason for the erasure is taken from the lineage (``request``), where there is one."""
    from huggingface_hub import ModelCardData

    tags = ["concept-erasure", "lora", "text-to-image", f"method:{result['method']}"]
    files = {name.rpartition(".")[0]: name for name in sorted(pictures)}
    prompt = f"a {result.get('targets', [result['target']])[0]}"
    return render_template(
        "card.md",
        head=ModelCardData(library_name="diffusers", base_model=base_model, tags=tags).to_yaml(),
        result=result,
        at=partial(at_path, lineage),
        line=headline(result)[1],
        findings=findings(result),
        state=_state(UNDECIDED, NOT_AUDITED),
        base=json.dumps(base_model, ensure_ascii=False),
        prompt=json.dumps(prompt, ensure_ascii=False),
        metrics=metric_rows(result),
        grids={title: files[name] for name, title in GRIDS.items() if name in files},
        roles=ROLES,
        command=command,
    )


def _state(decisions: str, audit: str) -> str:
    return f"## {_STATE}\n\n- Decisions: {decisions}.\n- Audit: {audit}.\n"


def restated(card: str, decisions: str, audit: str) -> str:
    """The card with another state; one that has no such section (of an earlier version) gets it at its
    end."""
    parts = sections(card)
    fresh = f"{_state(decisions, audit)}\n"
    if _STATE not in dict(parts):
        return f"{card.rstrip()}\n\n{fresh}"
    return "".join(fresh if name == _STATE else body for name, body in parts)


def describe(card: str, room: int = ROOM) -> str:
    """The card without its YAML head, as Markdown of at most ``room`` characters; what was left out is named,
    and where it is.

    A description shows no pictures: their lines say under which artifact they lie."""
    body = re.sub(r"\A---\n.*?\n---\n+", "", card, flags=re.DOTALL)
    body = re.sub(r"!\[([^\]]*)\]\(([^)\s]+)\)", r"\1: artifact `\2`", body)
    parts, out = sections(body), []
    for name in ("", *_GIVEN_UP):
        out += [name] if name and name in dict(parts) else []
        text = "".join(body for title, body in parts if title not in out).rstrip() + "\n\n" + _note(out)
        if len(text) <= room:
            return text
    tail = f"…\n\n{_note(out)}"
    return text[: room - len(tail)] + tail


def sections(text: str) -> list[tuple[str, str]]:
    """(title, body with its heading) of everything that a ``## `` heading opens; what stands before the first
    has no title."""
    bodies = re.split(r"(?m)^(?=## )", text)
    return [(match[1] if (match := re.match(r"## (.*)", body)) else "", body) for body in bodies]


def _note(left_out: Sequence[str]) -> str:
    missing = f" Left out here: {', '.join(left_out).lower()}." if left_out else ""
    return f"The whole card is the run's artifact `card.md`.{missing}\n"
