"""The smallest set of champions that has to stay out of a release which its gate refuses, and why. Ours."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from fade.adapters.interaction import CostTable, significant
from fade.config import PromotionPolicy
from fade.errors import PromotionError
from fade.governance.judged_release import NOISE, JudgedRelease
from fade.governance.release_plan import STAGE
from fade.utils.names import TOGETHER

EXACT = 3
"""Up to so many champions, beside those that must stay out of any release, the search is exhaustive."""
EXHAUSTIVE, GREEDY = "exhaustive", "greedy"


def smallest_set(
    champions: Collection[str],
    shortfalls: Callable[[frozenset[str]], Iterable[float]],
    required: Collection[str] = (),
) -> tuple[frozenset[str], str]:
    """The smallest set to leave out so that the others pass, and EXHAUSTIVE or GREEDY: which search found it.

    shortfalls: the set that is left out -> points below each demand of the release of the others, none above
    0 when it passes. ``required`` are in every set. Beside them all sets of up to EXACT champions are tried,
    small ones first; of equal ones the one whose largest shortfall is least, then the alphabetical first.
    Beyond that the champion without which the largest shortfall is least is added until the others pass, and
    whoever is not needed for that is taken back: such a set need not be the smallest. Raises PromotionError
    when nothing would be left."""

    def worst(out: frozenset[str]) -> tuple[float, list[str]]:
        return round(max(shortfalls(out), default=0.0), 6), sorted(out)

    def passes(out: frozenset[str]) -> bool:
        return all(points <= NOISE for points in shortfalls(out))

    start, most = frozenset(required), len(champions) - 1
    others = sorted({*champions} - start)
    for size in range(min(EXACT, most - len(start)) + 1):
        sets = (start.union(some) for some in combinations(others, size))
        if found := [out for out in sets if passes(out)]:
            return min(found, key=worst), EXHAUSTIVE
    out = start
    while len(out) < most:
        out = min((out | {name} for name in others if name not in out), key=worst)
        if passes(out):
            for name in sorted(out - start):
                out = out - {name} if passes(out - {name}) else out
            return out, GREEDY
    what = "no release of some of the champions is predicted to pass: all would have to stay out."
    action = "erase the concepts that fell short with other settings and promote them, or give --override."
    raise PromotionError(what, stage=STAGE, action=action)


def exclusion(record: Mapping[str, Any], gate: PromotionPolicy) -> dict[str, Any]:
    """The set that has to stay out of a judged release, from its record.

    ``members``: ``part`` (NAME/VERSION), ``concepts`` and ``why`` of each; ``search``: EXHAUSTIVE or GREEDY;
    ``margin``: points by which the others are predicted to pass at least; ``none``: why there is no such set,
    or empty. A champion whose own concept is not erased, or of whose record a critical data check failed, is
    a member whatever the others are. Empty for a release that passes, and for a record of an earlier version,
    which does not hold what was judged."""
    if "judged" not in record.get("release", {}):
        return {}
    judged = JudgedRelease.of(record, gate)
    labels = {TOGETHER.join(part["concepts"]): label for label, part in record["parts"].items()}
    unsound = {name for name, label in labels.items() if _unsound(record, label)}

    def shortfalls(out: frozenset[str]) -> Iterator[float]:
        return (one.shortfall for one in judged.demands(out))

    try:
        out, search = smallest_set([*labels], shortfalls, judged.not_erased | unsound)
    except PromotionError as error:
        return {"members": [], "search": "", "margin": None, "none": str(error)}
    if not out:
        return {}
    members = [
        {
            "part": labels[name],
            "concepts": [*judged.champions[name]],
            "why": "a critical data check of its record failed" if name in unsound else judged.why(name, out),
        }
        for name in sorted(out)
    ]
    margin = significant(-max(shortfalls(out)))
    return {"members": members, "search": search, "margin": margin, "none": ""}


def _unsound(record: Mapping[str, Any], label: str) -> bool:
    checks = [some for stage, some in record["checks"].items() if stage.rpartition(" ")[0] == label]
    return any(one["severity"] == "critical" and not one["success"] for some in checks for one in some)


def predicted_exclusion(predicted: Mapping[str, Any], most: float) -> dict[str, Any]:
    """The same before anything is judged, from the interaction table alone: the smallest set without which no
    champion has more than the share ``most`` of its change missing or of other champions. ``margin`` is in
    points of that share. Empty when there is none that has."""
    champions = predicted.get("erased", {})
    table = CostTable(predicted.get("cost", {}), _concepts(champions), [*champions])

    def residuals(out: frozenset[str]) -> dict[str, float]:
        stay = [name for name in champions if name not in out]
        moved, whole = (
            np.sqrt((table.moved(some) ** 2) @ table.erases) for some in (stay, table.champions)
        )  # (champions,)
        found = {}
        for name, part, all_of_it in zip(champions, moved, whole, strict=True):
            one = champions[name]
            own = np.hypot(one["missing"], one["foreign"])
            now = np.hypot(one["missing"], one["foreign"] * (part / all_of_it if all_of_it else 1.0))
            found[name] = float(one["residual"] * now / own) if own else one["residual"]
        # a champion alone keeps its bytes
        return {name: found[name] if len(stay) > 1 else 0.0 for name in stay}

    def shortfalls(out: frozenset[str]) -> list[float]:
        return [100 * (one - most) for one in residuals(out).values()]

    if len(champions) < 2:
        return {}
    out, search = smallest_set([*champions], shortfalls)
    members = [
        {"concepts": name.split(TOGETHER), "why": _why_predicted(name, residuals(out - {name}), most)}
        for name in sorted(out)
    ]
    margin = significant(-max(shortfalls(out)))
    return {"members": members, "search": search, "margin": margin, "none": ""} if out else {}


def _concepts(champions: Iterable[str]) -> list[str]:
    return [concept for name in champions for concept in name.split(TOGETHER)]


def _why_predicted(name: str, residuals: Mapping[str, float], most: float) -> str:
    worst = max(residuals, key=lambda one: (residuals[one], one == name))
    which = "its change" if worst == name else f"the change of {worst!r}"
    share = f"{100 * residuals[worst]:.0f} % of {which} is missing or of other champions"
    return f"with it {share} (at most {100 * most:.0f} %)"
