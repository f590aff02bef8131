"""The picture of a release's interaction table: which erasure costs which concept how much. Predicted by the
text states alone (`fade.adapters.interaction`); shows numbers, computes none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fade.data.vocabulary import TOGETHER
from fade.reporting.svg import Chart, rect, text
from fade.reporting.theme import shortened, width_of

GROUPS = {"erased": "target", "used": "adjacent", "trained": "adjacent", "measured": "heldout"}
"""Group of concepts -> the role whose colour it has."""
TITLES = {"target": "erased", "adjacent": "must stay: used", "heldout": "must stay: only measured"}
COLUMNS = 12
"""Concepts of a group that are shown: those that cost most."""
MAX_LABEL = 26
MARGIN, CELL, GAP = 14.0, 31.0, 40.0
DEEPEST = 0.55
"""Opacity of the largest cost: ink is read on it with a contrast of at least 4 in both themes."""


def columns(predicted: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(concept, role) of the columns: the erased ones in their order, then of each group the costliest."""
    by_role: dict[str, list[str]] = {role: [] for role in TITLES}
    for name, cost in predicted["cost"].items():
        by_role[GROUPS[cost["group"]]].append(name)
    out = []
    for role, names in by_role.items():
        if role != "target":
            names = sorted(names, key=lambda name: -predicted["cost"][name]["total"])[:COLUMNS]
        out += [(name, role) for name in names]
    return out


def interaction_chart(predicted: Mapping[str, Any]) -> Chart:
    """Champions by rows, concepts by columns; a cell: how far the champion's share of the release moves what
    the layers that read the text put out, percent. A champion's own target is outlined."""
    champions, shown = list(predicted["erased"]), columns(predicted)
    rows = [*champions, "whole release"]
    labels = [shortened(name, MAX_LABEL) for name in rows]
    left = MARGIN + max(width_of(label, 11.5, bold=True) for label in labels) + 8
    top, at = 76.0, []
    for i in range(len(shown)):
        gaps = len({role for _, role in shown[: i + 1]}) - 1
        at.append(left + i * CELL + GAP * gaps)
    title = f"Predicted cost, {predicted['mode']} at rank {predicted['rank']}"
    body = [text(MARGIN, 28, title, "title")]
    heads = {role: x for (_, role), x in reversed(list(zip(shown, at, strict=True)))}
    body += [text(x, top - 12, TITLES[role], f"head {role}") for role, x in heads.items()]
    costs = [cost for name, _ in shown for cost in _cells(predicted, name, champions)]
    most = max(costs, default=0.0)
    for i, label in enumerate(labels):
        role = "target" if i < len(champions) else "first"
        body.append(text(left - 8, top + i * CELL + CELL / 2 + 4, label, f"name {role} end"))
    for (name, role), x in zip(shown, at, strict=True):
        for i, cost in enumerate(_cells(predicted, name, champions)):
            y, depth = top + i * CELL, cost / most if most else 0.0
            body.append(rect(x, y, CELL - 1, CELL - 1, "heat", opacity=DEEPEST * depth))
            if i < len(champions) and name in champions[i].split(TOGETHER):
                body.append(rect(x + 1, y + 1, CELL - 3, CELL - 3, "outline"))
            number = f"{cost:.0f}" if cost >= 10 else f"{cost:.1f}"
            body.append(text(x + CELL / 2, y + CELL / 2 + 3.5, number, "cell middle"))
        bottom = top + len(rows) * CELL + 14
        body.append(
            text(x + CELL / 2 + 4, bottom, shortened(name, MAX_LABEL), f"name {role} end", turned=-42)
        )
    longest = max((width_of(shortened(name, MAX_LABEL), 11.5) for name, _ in shown), default=0.0)
    height = top + len(rows) * CELL + 30 + longest * math.sin(math.radians(42))
    width = max((at[-1] if at else left) + CELL + MARGIN + 150, 2 * MARGIN + width_of(title, 15, bold=True))
    return Chart(width, height + MARGIN, body)


def _cells(predicted: Mapping[str, Any], name: str, champions: list[str]) -> list[float]:
    """The costs of a concept: by each champion, and by all of them."""
    cost = predicted["cost"][name]
    return [*(float(cost["of"].get(champion, 0.0)) for champion in champions), float(cost["total"])]
