"""A release: the champions of all concepts in one adapter. Its parts, the cost for each concept, and the
release to go back to. Ours.

Decisions say which release is current, as for any model (fade/governance/promotion.py). A rollback is one
more promotion, of an earlier release, whose reason names the release that it takes back; the decisions alone
therefore tell which releases lie below the current one."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fade.config import Params, PromotionPolicy, ReleaseConfig
from fade.config.release import NO_BYTES
from fade.errors import AdapterError, PromotionError
from fade.evaluation.err import balances
from fade.evaluation.metrics import Metric, report_rows
from fade.governance.promotion import PROMOTE, RETIRED, Decision, Standing, criteria
from fade.utils.hashing import fingerprint
from fade.utils.names import skeleton

STAGE = "release"
NAME = "release"
JUDGED_BY = ("data", "sampler", "neighborhood", "evaluate")
"""Sections of the parameters that decide a release's numbers; `release` decides its bytes."""
SPLIT = ("seed", "measured_one_in")
"""Keys of the section `release` that decide a sum's record: which concepts are reported apart."""
_GROUPS = {"target": "targets", "adjacent": "neighbours", "heldout": "heldout", "rest": "rest"}
"""Role of concepts in an evaluation -> their group in a release's record."""
_ROLLBACK = "rollback of {}: "


def release_name(prefix: str) -> str:
    """``"fade"`` -> ``"fade.release"``: a concept's model has a hyphen there, and no concept's slug has a
    dot."""
    return f"{prefix}.{NAME}"


@dataclass(frozen=True)
class Part:
    """One champion of a release."""

    name: str
    version: str
    concepts: tuple[str, ...]
    adapter_sha256: str
    lineage_sha256: str
    base_sha256: str
    data_md5: str
    base_legacy_sha256: str = ""
    """The base's hash in records of earlier versions, where the part's own record names it."""
    checks: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict, repr=False)
    """The data checks of its record, and one more: that its inputs did not change."""

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}"

    def to_json(self) -> dict[str, Any]:
        """The part's entry in the release's record."""
        keys = ("adapter_sha256", "lineage_sha256", "base_sha256", "data_md5")
        return {"concepts": list(self.concepts), **{key: getattr(self, key) for key in keys}}


def plan(parts: Sequence[Part]) -> list[Part]:
    """The parts in the order of their names.

    Raises PromotionError when there is none or a concept is in two of them (also under two names: spellings
    that look alike, or the same adapter twice), AdapterError when they are of several bases."""
    if not parts:
        action = "promote a version of each concept with `fade promote`."
        raise PromotionError("no concept has a champion.", stage=STAGE, action=action)
    ordered = sorted(parts, key=lambda part: part.name)
    bases: dict[str, list[str]] = {}
    own = {part.base_legacy_sha256: part.base_sha256 for part in parts if part.base_legacy_sha256}
    erased: dict[str, str] = {}
    adapters: dict[str, str] = {}
    for part in ordered:
        if (other := adapters.setdefault(part.adapter_sha256, part.label)) != part.label:
            what = f"{other} and {part.label} are one adapter under two names."
            raise PromotionError(what, stage=STAGE, action="revoke one of the two.")
        bases.setdefault(own.get(part.base_sha256, part.base_sha256), []).append(part.label)
        for concept in part.concepts:
            if (name := skeleton(concept)) in erased:
                what = f"{concept!r} is erased by {erased[name]} and by {part.label}."
                action = "revoke one of the two; together they would erase it twice."
                raise PromotionError(what, stage=STAGE, action=action)
            erased[name] = part.label
    if len(bases) > 1:
        listed = "; ".join(f"{base[:12]}: {', '.join(labels)}" for base, labels in bases.items())
        what = f"the champions were trained for different bases: {listed}."
        raise AdapterError(what, stage=STAGE, action="train and promote all of them on one base.")
    return ordered


def is_solved(parts: Sequence[Part], params: Params) -> bool:
    """Whether the section `release` decides a release's bytes: one champion's, and a sum's, come from the
    parts alone."""
    return params.release.mode != "sum" and len(parts) > 1


def key(parts: Sequence[Part], params: Params, *, signed: bool, data_md5: str = "") -> str:
    """Identifies a release, 12 hexadecimal digits: the same champions, built and evaluated under the same
    settings. A sum has the key that it had before there was another way. data_md5: of the data whose
    vocabulary a solved release splits."""
    made_of = [[part.label, part.adapter_sha256, part.lineage_sha256] for part in parts]
    values = params.model_dump(
        mode="json",
        by_alias=True,
        include=set(JUDGED_BY),
        exclude={"data": {"dvc_file", "remote", "base_config"}},
    )
    values = params.without_later(values)
    config, default = params.release, ReleaseConfig()
    if is_solved(parts, params):
        values["release"] = config.model_dump(mode="json", exclude={*NO_BYTES})
        values["release_data"] = data_md5
    elif any(getattr(config, name) != getattr(default, name) for name in SPLIT):
        values["release"] = config.model_dump(mode="json", include={*SPLIT})
    return fingerprint({"parts": made_of, "judged_by": values, "signed": signed})[:12]


def numbers_of(
    groups: Mapping[str, Sequence[str]],
    base: Mapping[str, float],
    erased: Mapping[str, float],
    real: float | None = None,
) -> dict[str, Any]:
    """``metrics`` and ``base_metrics`` of one concept, percent, as in an evaluation; None for an empty group.

    groups: targets, neighbours, heldout and rest -> concepts. base, erased: concept -> share of its pictures
    that are recognised, percent; real: its A_real."""
    metrics: dict[str, float | None] = {}
    before: dict[str, float | None] = {}
    for metric, row in report_rows(first_table=True):
        if row.group not in _GROUPS or metric.role == "quality":  # no share of a group that is recognised
            continue
        group = groups[_GROUPS[row.group]]
        before[row.base_name] = _mean([base[name] for name in group])
        value = _mean([erased[name] for name in group])
        metrics[metric.name] = 100.0 - value if metric.role == "erasure" and value is not None else value
    of_several = {name: float(value) for name, value in balances(metrics).items()}
    metrics |= {name: None if math.isnan(value) else value for name, value in of_several.items()}
    return {"metrics": {**metrics, "A_real": real}, "base_metrics": before}


def kept_apart(
    kept: Mapping[str, Sequence[str]], per_concept: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, float | int | None]]:
    """Of each group of ``kept`` (its name -> its concepts): how many of them were judged, and their mean
    share of recognised pictures by the original and by the release, percent; ``kept`` is the ratio, percent.

    per_concept: rows of an evaluation, with ``concept``, ``base`` and ``erased``."""
    out: dict[str, dict[str, float | int | None]] = {}
    for group, names in kept.items():
        rows = [row for row in per_concept if row["concept"] in names]
        base, erased = (_mean([float(row[model]) for row in rows]) for model in ("base", "erased"))
        share = 100 * erased / base if base and erased is not None else None
        out[group] = {"concepts": len(rows), "base": base, "erased": erased, "kept": share}
    return out


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def worst(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """``metrics`` and ``base_metrics`` for the gate, metric by metric those of the concept with the lowest
    share kept (or none measured), and ``worst``: metric -> that concept. parts: concept -> `numbers_of`."""
    metrics: dict[str, float | None] = {}
    before: dict[str, float | None] = {}
    lowest: dict[str, str] = {}
    for metric, row in report_rows(first_table=True):
        name = metric.name
        lowest[name] = min(parts, key=lambda concept: _share(parts[concept], metric))
        numbers = parts[lowest[name]]
        metrics[name] = numbers["metrics"].get(name)
        before[row.base_name] = numbers["base_metrics"].get(row.base_name)
    before.pop("", None)  # of the balances, which have none
    return {"metrics": metrics, "base_metrics": before, "worst": lowest}


def _share(numbers: Mapping[str, Any], metric: Metric) -> float:
    """The metric, or its ratio to the base's where it is a retention; -1 when it was not measured."""
    value = numbers["metrics"].get(metric.name)
    whole = numbers["base_metrics"].get(metric.name) if metric.role == "retention" else 1.0
    return float(value / whole) if value is not None and whole else -1.0


def shortfalls(record: Mapping[str, Any], gate: PromotionPolicy) -> list[str]:
    """The criteria of the gate that a release's record does not meet, every concept by name."""
    out = []
    for concept, numbers in record["outputs"]["parts"].items():
        measured = criteria({**record, "outputs": numbers}, gate)
        out += [f"{concept}: {one}" for one in measured if not one.holds and one.threshold is not None]
    return out + [str(one) for one in criteria(record, gate) if not one.holds and one.threshold is None]


def rollback_reason(version: str, reason: str) -> str:
    """The reason of the promotion that takes ``version`` back."""
    return _ROLLBACK.format(version) + reason


def ladder(decisions: Sequence[Decision]) -> list[str]:
    """The releases that were current, oldest first, without those that a rollback took back."""
    steps: list[str] = []
    for decision in (one for one in decisions if one.action == PROMOTE):
        version = decision.version
        if decision.reason.startswith(_ROLLBACK.format("")[:-2]) and version in steps:
            steps = steps[: steps.index(version) + 1]
        else:
            steps = [*(step for step in steps if step != version), version]
    return steps


def previous(standing: Standing, refused: Callable[[str], Collection[str]]) -> str:
    """The release to go back to: the last one below the current that is usable. refused: version -> its
    revoked parts. Raises PromotionError when there is none."""
    steps = ladder(standing.decisions)
    if standing.champion in steps:
        steps = steps[: steps.index(standing.champion)]
    for version in reversed(steps):
        if standing.states.get(version) == RETIRED and not refused(version):
            return version
    ever = bool(standing.decisions)
    what = "there is no earlier release that was not revoked." if ever else "no release was ever current."
    action = "see `fade releases`; make another with `fade release`."
    raise PromotionError(what, stage="rollback", action=action)


def taken_back(standing: Standing, version: str) -> Decision | None:
    """The rollback that took ``version`` back; None when there is none, or a promotion followed it."""
    for decision in reversed(standing.decisions):
        if decision.action == PROMOTE and decision.version == version:
            return None
        if decision.action == PROMOTE and decision.reason.startswith(_ROLLBACK.format(version)):
            return decision
    return None
