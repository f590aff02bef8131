"""Who may be champion: the gate's criteria on a version's record, and the chain
(fade/governance/append_log.py) of what people decided. Ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fade.config import PromotionPolicy
from fade.errors import PromotionError
from fade.governance.append_log import LogEntry, verify_log

STAGE = "decide"
PROMOTE, REJECT, REVOKE = ACTIONS = ("promote", "reject", "revoke")
STATES = {PROMOTE: "champion", REJECT: "rejected", REVOKE: "revoked"}
RETIRED = "retired"
"""A champion after another was promoted."""


@dataclass(frozen=True)
class Criterion:
    """One demand of the gate. ``value`` and ``threshold`` are None where there is no number."""

    name: str
    holds: bool
    value: float | None = None
    threshold: float | None = None

    def __str__(self) -> str:
        if self.threshold is None:
            return self.name
        return f"{self.name} {'not measured' if self.value is None else f'{self.value:.1f}'} (asked {self.threshold:g})"


@dataclass(frozen=True, kw_only=True)
class Decision(LogEntry):
    """One link of the chain of decisions."""

    version: str
    action: str
    reason: str = ""
    overridden: bool = False
    """Promoted although a criterion did not hold."""
    criteria: Sequence[Mapping[str, Any]] = ()

    KIND, STAGE, ERROR = "decision", STAGE, PromotionError

    @classmethod
    def validated(cls, content: dict[str, Any]) -> dict[str, Any]:
        if content["action"] not in ACTIONS:
            raise ValueError("another action")
        return content


@dataclass(frozen=True)
class Standing:
    """What the chain says now."""

    decisions: Sequence[Decision] = ()
    """Those that count, in order."""
    void: Sequence[Decision] = ()
    """Those that came second."""
    champion: str | None = None
    states: Mapping[str, str] = field(default_factory=dict)
    """Version -> champion, retired, rejected or revoked; a version that nobody decided on is not there."""

    @property
    def head(self) -> tuple[int, str]:
        """Number and sha256 of the last decision; (0, "") when there is none."""
        return (self.decisions[-1].number, self.decisions[-1].sha256()) if self.decisions else (0, "")


def criteria(lineage: Mapping[str, Any], gate: PromotionPolicy) -> list[Criterion]:
    """The gate's demands on a closed lineage record (`fade.provenance.lineage`). A number that was not
    measured holds nothing.

    A release's numbers are those of the concept that fares worst in each
    (`fade.governance.release_plan.worst`): it is named."""
    outputs, checks = lineage["outputs"], lineage.get("checks") or {}
    worst = outputs.get("worst") or {}
    after, before = outputs.get("metrics") or {}, outputs.get("base_metrics") or {}

    def kept(name: str) -> float | None:
        new, old = after.get(name), before.get(name)
        return None if new is None or not old else 100 * new / old

    def named(name: str, metric: str) -> str:
        return f"{name}, {worst[metric]}" if metric in worst else name

    asked = {
        named("erased", "A_er"): (after.get("A_er"), gate.erased),
        named("neighbours kept", "A_adj"): (kept("A_adj"), gate.neighbours_kept),
        named("held-out kept", "A_heldout"): (kept("A_heldout"), gate.heldout_kept),
        named("rest kept", "A_rest"): (kept("A_rest"), gate.rest_kept),
        named("ERB", "ERB"): (after.get("ERB"), gate.erb),
    }
    out = [
        Criterion(name, value is not None and value >= least, value, least)
        for name, (value, least) in asked.items()
    ]
    critical = [one["success"] for some in checks.values() for one in some if one["severity"] == "critical"]
    out.append(Criterion("data checks", bool(critical) and all(critical)))
    out.append(Criterion("inputs unchanged", lineage["inputs"]["unchanged"] is True))
    return out


def replay(decisions: Sequence[Decision]) -> Standing:
    """The chain from its beginning. Raises PromotionError, naming the decision, when one was edited or is
    missing."""
    counted, void = verify_log(decisions)
    states: dict[str, str] = {}
    champion: str | None = None
    for one in counted:
        if one.action == PROMOTE:
            if champion is not None:
                states[champion] = RETIRED
            champion = one.version
        elif champion == one.version:
            champion = None
        states[one.version] = STATES[one.action]
    return Standing(tuple(counted), tuple(void), champion, states)


def refuse(standing: Standing, version: str, action: str, found: Sequence[Criterion], override: str) -> None:
    """Raises PromotionError when ``action`` may not be decided. ``override``: the reason why a criterion need
    not hold."""
    state = standing.states.get(version)
    if state == STATES[REVOKE]:
        what = f"version {version} was revoked."
        raise PromotionError(
            what, stage=STAGE, action="a revocation is final; train and register another version."
        )
    if action == REJECT and state == STATES[PROMOTE]:
        raise PromotionError(
            f"version {version} is the champion.", stage=STAGE, action="revoke it, or promote another one."
        )
    if action != PROMOTE or override:
        return
    if state == STATES[REJECT]:
        raise PromotionError(
            f"version {version} was rejected.",
            stage=STAGE,
            action="promote another one, or give --override a reason.",
        )
    if failed := [one for one in found if not one.holds]:
        what = f"version {version} does not pass the gate: {'; '.join(map(str, failed))}."
        raise PromotionError(
            what,
            stage=STAGE,
            action="erase with other settings, or give --override a reason; it is shown for ever.",
        )
