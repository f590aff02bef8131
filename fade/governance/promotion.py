"""Which version may be champion: the promotion policy's criteria on a version's record, and the log
(fade/governance/append_log.py) of decisions. Ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from fade.config import PromotionPolicy
from fade.errors import PromotionError, UsageError
from fade.governance.append_log import LogEntry, verify_log

STAGE = "decide"
PROMOTE, REJECT, REVOKE = ACTIONS = ("promote", "reject", "revoke")
CHAMPION, REJECTED, REVOKED, RETIRED = "champion", "rejected", "revoked", "retired"
"""States of a version by the last decision about it; RETIRED: a champion after another was promoted."""
STATES = {PROMOTE: CHAMPION, REJECT: REJECTED, REVOKE: REVOKED}


class PromotionMetric(NamedTuple):
    """What a promotion demands: key of the evaluation's ``metrics``, the criterion's name, the field of
    `PromotionPolicy` (None there: not demanded), and whether the value is the share, in percent, of the
    original model's."""

    metric: str
    label: str
    threshold: str
    of_original: bool = False

    def value(self, metrics: Mapping[str, Any], base_metrics: Mapping[str, Any]) -> float | None:
        """The number that the threshold is for, percent; None when it was not measured."""
        value: float | None = metrics.get(self.metric)
        if self.of_original and value is not None:
            whole = base_metrics.get(self.metric)
            return float(100 * value / whole) if whole else None
        return value


METRICS = (
    PromotionMetric("A_er", "erased", "erased"),
    PromotionMetric("A_adj", "neighbours kept", "neighbours_kept", of_original=True),
    PromotionMetric("A_heldout", "held-out kept", "heldout_kept", of_original=True),
    PromotionMetric("A_rest", "rest kept", "rest_kept", of_original=True),
    PromotionMetric("ERB", "ERB", "erb"),
    PromotionMetric("A_real", "in its place, as real", "real"),
)


@dataclass(frozen=True)
class Criterion:
    """A demand of the policy, checked. ``value`` and ``threshold`` are None where there is no number."""

    name: str
    holds: bool
    value: float | None = None
    threshold: float | None = None

    def __str__(self) -> str:
        if self.threshold is None:
            return self.name
        value = "not measured" if self.value is None else f"{self.value:.1f}"
        return f"{self.name} {value} (asked {self.threshold:g})"


def demand(name: str, threshold: float, value: float | None) -> Criterion:
    """The criterion that ``value`` reaches ``threshold``; one that was not measured does not hold."""
    return Criterion(name, value is not None and value >= threshold, value, threshold)


@dataclass(frozen=True, kw_only=True)
class Decision(LogEntry):
    """One entry of the log of decisions."""

    version: str
    action: str
    reason: str = ""
    overridden: bool = False
    """Promoted although a criterion did not hold."""
    criteria: Sequence[Mapping[str, Any]] = ()
    adapter_sha256: str = ""
    """Of the version: a revocation is of these bytes, whatever version or model holds them."""

    KIND, STAGE, ERROR = "decision", STAGE, PromotionError
    CHOICES = {"action": ACTIONS}  # noqa: RUF012 (a class variable of the base)
    ADDED = ("adapter_sha256",)

    @property
    def revokes(self) -> str:
        return self.adapter_sha256 if self.action == REVOKE else ""


@dataclass(frozen=True)
class Standing:
    """The outcome of all decisions about a model's versions."""

    decisions: Sequence[Decision] = ()
    """Those that count, in order."""
    void: Sequence[Decision] = ()
    champion: str | None = None
    states: Mapping[str, str] = field(default_factory=dict)
    """Version -> champion, retired, rejected or revoked; a version without a decision is not there."""

    @property
    def head(self) -> tuple[int, str]:
        """Number and sha256 of the last decision; (0, "") when there is none."""
        return (self.decisions[-1].number, self.decisions[-1].sha256()) if self.decisions else (0, "")

    def last(self, version: str) -> Decision | None:
        """The last decision about a version."""
        return next((one for one in reversed(self.decisions) if one.version == version), None)


def criteria(lineage: Mapping[str, Any], policy: PromotionPolicy) -> list[Criterion]:
    """The policy's criteria on a closed lineage record; one on a number that was not measured does not hold.
    A release's numbers are those of the worst concept (`fade.governance.release_plan.worst`), by name. Raises
    PromotionError for what is no record."""
    record = _parse(lineage)
    erased, original = record.outputs.metrics or {}, record.outputs.base_metrics or {}
    worst = record.outputs.worst or {}
    out = []
    for one in METRICS:
        name = f"{one.label}, {worst[one.metric]}" if one.metric in worst else one.label
        threshold = getattr(policy, one.threshold)
        if threshold is None:  # not asked
            continue
        out.append(demand(name, threshold, one.value(erased, original)))
    checks = (record.checks or {}).values()
    critical = [one.success for some in checks for one in some if one.severity == "critical"]
    out.append(Criterion("data checks", bool(critical) and all(critical)))
    out.append(Criterion("inputs unchanged", record.inputs.unchanged is True))
    return out


class _Outputs(BaseModel):
    metrics: dict[str, float | None] | None = None
    base_metrics: dict[str, float | None] | None = None
    worst: dict[str, str] | None = None


class _Check(BaseModel):
    severity: str
    success: bool


class _Inputs(BaseModel):
    unchanged: bool | None


class _Record(BaseModel):
    """What the policy reads of a record, or of the part of it that a request's result has."""

    outputs: _Outputs
    inputs: _Inputs
    checks: dict[str, list[_Check]] | None = None


def _parse(lineage: object) -> _Record:
    try:
        return _Record.model_validate(lineage)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"the record's {'.'.join(map(str, first['loc'])) or 'content'} cannot be read: {first['msg']}."
        action = "do not use the version; find out who changed the registry."
        raise PromotionError(what, stage=STAGE, action=action, tampered=True) from None


def replay(decisions: Sequence[Decision]) -> Standing:
    """The outcome of a log of decisions. Raises PromotionError for an edited or missing one, by number."""
    counted, void = verify_log(decisions)
    states: dict[str, str] = {}
    champion: str | None = None
    for decision in counted:
        if decision.action == PROMOTE:
            if champion is not None:
                states[champion] = RETIRED
            champion = decision.version
        elif champion == decision.version:
            champion = None
        states[decision.version] = STATES[decision.action]
    return Standing(tuple(counted), tuple(void), champion, states)


def check_override(override: str) -> str:
    """The reason of an override, without blanks around it. Raises UsageError for a blank one."""
    if override and not override.strip():
        raise UsageError("--override is blank.", stage=STAGE, action="say why; it is shown for ever.")
    return override.strip()


def check_decision(
    standing: Standing, version: str, action: str, checked: Sequence[Criterion], override: str
) -> None:
    """Raises PromotionError when ``action`` is not allowed. ``checked``: the criteria of a promotion;
    ``override``: the reason why they need not hold."""
    state, gated = standing.states.get(version), action == PROMOTE and not override
    if state == REVOKED:
        what, then = "was revoked", "a revocation is final; train and register another version."
    elif state == CHAMPION and action == REJECT:
        what, then = "is the champion", "revoke it, or promote another one."
    elif state == REJECTED and gated:
        what, then = "was rejected", "promote another one, or give --override a reason."
    elif gated and (failed := [str(one) for one in checked if not one.holds]):
        what = f"does not pass the gate: {'; '.join(failed)}"
        then = "erase with other settings, or give --override a reason; it is shown for ever."
    else:
        return
    raise PromotionError(f"version {version} {what}.", stage=STAGE, action=then)
