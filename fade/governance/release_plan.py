"""A release: the champions of all concepts, added up. What goes in, what it costs each concept, and which
release is current. Ours.

Who is current is decided like any champion (fade/governance/promotion.py). A rollback is one more promotion,
of an earlier release, whose reason says what it takes back; so the chain of decisions alone tells what lies
below the current release."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fade.config import Params, PromotionPolicy
from fade.errors import AdapterError, PromotionError
from fade.governance.promotion import PROMOTE, RETIRED, Decision, Standing, criteria
from fade.utils.hashing import fingerprint

STAGE = "release"
NAME = "release"
JUDGED_BY = ("data", "sampler", "neighborhood", "evaluate")
"""Sections of the parameters that decide a release's numbers; its bytes come from its parts alone."""
_GROUPS = {"A_er": "targets", "A_adj": "neighbours", "A_heldout": "heldout", "A_rest": "rest"}
_BASE = {"A_er": "A_tar"}
_ROLLBACK = "rollback of {}: "


def release_name(prefix: str) -> str:
    """``"fade"`` -> ``"fade.release"``: a concept's model has a hyphen there, and no concept's slug has a
    dot."""
    return f"{prefix}.{NAME}"


@dataclass(frozen=True)
class Part:
    """One champion."""

    name: str
    version: str
    concepts: tuple[str, ...]
    adapter_sha256: str
    lineage_sha256: str
    base_sha256: str
    data_md5: str
    checks: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict, repr=False)
    """Its record's data checks; that its inputs did not change is one more."""

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}"

    def to_json(self) -> dict[str, Any]:
        """What the release's record says of it."""
        return {
            "concepts": list(self.concepts),
            "adapter_sha256": self.adapter_sha256,
            "lineage_sha256": self.lineage_sha256,
            "base_sha256": self.base_sha256,
            "data_md5": self.data_md5,
        }


def plan(parts: Sequence[Part]) -> list[Part]:
    """The parts in the order in which they are added up, that of their names.

    Raises PromotionError when there is none or a concept is in two of them, AdapterError when they are of
    several bases."""
    if not parts:
        raise PromotionError(
            "no concept has a champion.",
            stage=STAGE,
            action="promote a version of each concept with `fade promote`.",
        )
    ordered = sorted(parts, key=lambda part: part.name)
    bases: dict[str, list[str]] = {}
    erased: dict[str, str] = {}
    for part in ordered:
        bases.setdefault(part.base_sha256, []).append(part.label)
        for concept in part.concepts:
            if concept in erased:
                what = f"{concept!r} is erased by {erased[concept]} and by {part.label}."
                raise PromotionError(
                    what, stage=STAGE, action="revoke one of the two; added up they would erase it twice."
                )
            erased[concept] = part.label
    if len(bases) > 1:
        said = "; ".join(f"{base[:12]}: {', '.join(labels)}" for base, labels in bases.items())
        raise AdapterError(
            f"the champions were trained for different bases: {said}.",
            stage=STAGE,
            action="train and promote all of them on one base.",
        )
    return ordered


def key(parts: Sequence[Part], params: Params, *, signed: bool) -> str:
    """Names the release: the same champions, judged under the same settings, are the same one."""
    made_of = [[part.label, part.adapter_sha256, part.lineage_sha256] for part in parts]
    values = params.model_dump(
        mode="json", by_alias=True, include=set(JUDGED_BY), exclude={"data": {"dvc_file", "remote"}}
    )
    return fingerprint({"parts": made_of, "judged_by": values, "signed": signed})[:12]


# Numbers.


def numbers_of(
    groups: Mapping[str, Sequence[str]], base: Mapping[str, float], erased: Mapping[str, float]
) -> dict[str, Any]:
    """``metrics`` and ``base_metrics`` of one concept, as an evaluation has them; None for a group without
    concepts.

    groups: targets, neighbours, heldout and rest -> concepts. base, erased: concept -> how many of its
    pictures are recognised, percent."""
    from fade.evaluation.erb import erasing_retention_balance

    metrics: dict[str, float | None] = {}
    before: dict[str, float | None] = {}
    for metric, group in _GROUPS.items():
        names = groups[group]
        before[_BASE.get(metric, metric)] = _mean([base[name] for name in names])
        value = _mean([erased[name] for name in names])
        metrics[metric] = 100.0 - value if metric == "A_er" and value is not None else value
    er, adj = metrics["A_er"], metrics["A_adj"]
    metrics["ERB"] = None if er is None or adj is None else float(erasing_retention_balance(er, adj))
    return {"metrics": metrics, "base_metrics": before}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def worst(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """``metrics`` and ``base_metrics`` that the gate reads, each of the concept that fares worst in it, and
    ``worst``: metric -> concept.

    parts: concept -> `numbers_of`. What was not measured of a concept is its worst.
    """
    metrics: dict[str, float | None] = {}
    before: dict[str, float | None] = {}
    who: dict[str, str] = {}
    for metric in (*_GROUPS, "ERB"):
        who[metric] = min(parts, key=lambda concept: _share(parts[concept], metric))
        found = parts[who[metric]]
        metrics[metric] = found["metrics"][metric]
        if metric in _GROUPS:
            old = _BASE.get(metric, metric)
            before[old] = found["base_metrics"][old]
    return {"metrics": metrics, "base_metrics": before, "worst": who}


def _share(numbers: Mapping[str, Any], metric: str) -> float:
    new = numbers["metrics"][metric]
    if new is None:
        return -1.0
    if metric in ("A_er", "ERB"):
        return float(new)
    old = numbers["base_metrics"][metric]
    return float(new / old) if old else -1.0


def shortfalls(record: Mapping[str, Any], gate: PromotionPolicy) -> list[str]:
    """Where a release's record falls short of the gate, every concept by name; empty when it passes."""
    out = []
    for concept, numbers in record["outputs"]["parts"].items():
        found = criteria({**record, "outputs": numbers}, gate)
        out += [f"{concept}: {one}" for one in found if not one.holds and one.threshold is not None]
    return out + [str(one) for one in criteria(record, gate) if not one.holds and one.threshold is None]


# Going back.


def rollback_reason(version: str, reason: str) -> str:
    """The reason of the promotion that takes ``version`` back."""
    return _ROLLBACK.format(version) + reason


def ladder(decisions: Sequence[Decision]) -> list[str]:
    """The releases that were current, oldest first, without those that a rollback took off again."""
    steps: list[str] = []
    for one in decisions:
        if one.action != PROMOTE:
            continue
        if one.reason.startswith(_ROLLBACK.format("")[:-2]) and one.version in steps:
            del steps[steps.index(one.version) + 1 :]
            continue
        steps = [*(step for step in steps if step != one.version), one.version]
    return steps


def previous(standing: Standing, refused: Callable[[str], Collection[str]]) -> str:
    """The release to go back to: the last one below the current that may still be used.

    refused: version -> its revoked parts. Raises PromotionError when there is none.
    """
    steps = ladder(standing.decisions)
    if standing.champion in steps:
        steps = steps[: steps.index(standing.champion)]
    for version in reversed(steps):
        if standing.states.get(version) == RETIRED and not refused(version):
            return version
    what = (
        "there is no earlier release that was not revoked."
        if standing.decisions
        else "no release was ever current."
    )
    raise PromotionError(
        what, stage="rollback", action="see `fade releases`; make another with `fade release`."
    )


def taken_back(standing: Standing, version: str) -> Decision | None:
    """The rollback that took ``version`` off, unless it was promoted again since."""
    found = None
    for one in standing.decisions:
        if one.action == PROMOTE and one.version == version:
            found = None
        elif one.action == PROMOTE and one.reason.startswith(_ROLLBACK.format(version)):
            found = one
    return found
