"""Decide about a registered version: promote it to champion, reject or revoke it. The decision is recorded,
then the alias follows."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import PromotionPolicy
from fade.errors import FadeError, PromotionError, UsageError
from fade.governance.promotion import (
    PROMOTE,
    REJECT,
    STAGE,
    STATES,
    Criterion,
    Decision,
    Standing,
    criteria,
    refuse,
)
from tasks.registry.card import refresh
from tasks.registry.decision_log import CHAMPION, append, standing
from tasks.registry.lineage import read
from tasks.registry.tracking import Tracking, connect, faults
from tasks.registry.verify import signed
from tasks.registry.versions import fetch, resolve, revoked_parts

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

STATE = "state"
"""Tag of a version: what was decided last. For people who look at MLflow; the decisions are what counts."""


def decide(
    action: str,
    wanted: str,
    runs: Path,
    gate: PromotionPolicy,
    *,
    by: str,
    reason: str = "",
    override: str = "",
    public_key: str = "",
    after: Standing | None = None,
    timeout: float = 60.0,
) -> dict[str, Any]:
    """Take one decision, of `fade.governance.promotion.ACTIONS`, about one version; returns it, with
    ``changed`` False when it stood already.

    A promotion holds the version's record against the gate, and, when there is a ``public_key``, adapter and
    record against their signature; ``override`` is the reason why the numbers may fall short (a signature
    that does not hold is never overridden, nor is a release of which a part was revoked). Rejecting and
    revoking need a ``reason``. ``after``: the decisions on which this one was made up; when another has come
    since, it is void. Raises PromotionError (not allowed, or another decision came first: nothing is changed
    then), UsageError, RegistryError (the record or the store)."""
    if action != PROMOTE and not reason.strip():
        raise UsageError(f"to {action} needs a reason.", stage=STAGE, action="give it with --reason.")
    tracking = connect(runs, timeout=timeout)
    about = resolve(tracking, wanted)
    name, version = str(about.name), str(about.version)
    before = after or standing(tracking, name)
    if action == PROMOTE and before.champion == version:
        settle(tracking, name, before)
        last = next(one for one in reversed(before.decisions) if one.version == version)
        return _told(name, last, changed=False)
    found: list[Criterion] = []
    if action == PROMOTE:  # a version whose record was tampered with must not be kept from being revoked
        traced = read(tracking, about)
        if gone := revoked_parts(tracking, about):
            what = f"{name}/{version} holds {', '.join(gone)}, which was revoked."
            raise PromotionError(what, stage=STAGE, action="make another with `fade release`.")
        found = criteria(traced.lineage.content, gate)
        if public_key:
            signed(tracking, traced, fetch(tracking, about, runs), public_key)
            found.append(Criterion("signature", holds=True))
    refuse(before, version, action, found, override)
    short = any(not one.holds for one in found) or before.states.get(version) == STATES[REJECT]
    decision = Decision(
        number=0,
        version=version,
        action=action,
        by=by,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        reason=override or reason,
        overridden=bool(override) and short,
        criteria=[asdict(one) for one in found],
    )
    taken = append(tracking, about, decision, before)
    unsaid = settle(tracking, name, standing(tracking, name))
    return {**_told(name, taken, changed=True), **({"cards": unsaid} if unsaid else {})}


def history(name: str, runs: Path, *, timeout: float = 60.0) -> Standing:
    """All decisions about a model's versions. What a stopped decision left open (the alias) is done. Raises
    UnknownNameError."""
    tracking = connect(runs, timeout=timeout)
    name = str(resolve(tracking, name).name)
    found = standing(tracking, name)
    settle(tracking, name, found)
    return found


def settle(tracking: Tracking, name: str, found: Standing) -> list[str]:
    """Make MLflow's alias, tags and descriptions say what the decisions say, however often somebody decides
    meanwhile.

    Returns what could not be written into a description: a card that is behind undoes no decision.
    """
    unsaid: list[str] = []
    if not found.decisions:
        return unsaid
    while True:
        with faults(tracking.address):
            alias = tracking.client.get_registered_model(name).aliases.get(CHAMPION)
            if found.champion is None and alias is not None:
                tracking.client.delete_registered_model_alias(name, CHAMPION)
            elif found.champion is not None and str(alias) != found.champion:
                tracking.client.set_registered_model_alias(name, CHAMPION, found.champion)
            for version, state in found.states.items():
                if (entry := tracking.client.get_model_version(name, version)).tags.get(STATE) != state:
                    tracking.client.set_model_version_tag(name, version, STATE, state)
                    unsaid += _carded(tracking, entry, found)
        now = standing(tracking, name)
        if now.head == found.head:
            return unsaid
        found = now


def _carded(tracking: Tracking, version: ModelVersion, found: Standing) -> list[str]:
    try:
        refresh(tracking, version, decided=found)
    except (FadeError, OSError, ValueError) as error:
        return [f"{version.name}/{version.version}: {error}"]
    return []


def _told(name: str, decision: Decision, *, changed: bool) -> dict[str, Any]:
    return {"model": name, "changed": changed, **asdict(decision), "sha256": decision.sha256()}
