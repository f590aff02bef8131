"""Promote a version to champion, reject or revoke it: the decision is recorded, then the alias follows."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import PromotionPolicy
from fade.errors import FadeError, PromotionError, UsageError
from fade.governance import promotion
from fade.governance.promotion import CHAMPION, PROMOTE, REJECTED, STAGE, Criterion, Decision, Standing
from fade.utils.text import checked_text
from tasks.registry.card import refresh
from tasks.registry.connection import Tracking, registry_errors
from tasks.registry.lineage import read
from tasks.registry.log_store import DECISION_LOG
from tasks.registry.models import DECISIONS, set_tags
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.verify import verify_signature
from tasks.registry.versions import fetch, open_version, revoked_parts

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

STATE = "state"
"""Tag of a version: its state by the last decision. For people who look at MLflow; the decisions count."""


def decide(
    action: str,
    selection: str,
    runs: Path,
    policy: PromotionPolicy,
    *,
    by: str,
    reason: str = "",
    override: str = "",
    public_key: str = "",
    private_key: str = "",
    after: Standing | None = None,
) -> dict[str, Any]:
    """Take one decision, of `fade.governance.promotion.ACTIONS`, about one version; returns it, with
    ``changed`` False for a promotion of the champion.

    A promotion compares the version's record with the policy and verifies the signatures of adapter, record
    and decisions, when there is a ``public_key``; ``override`` is the reason why a criterion need not hold (a
    signature and the revocation of a part always count). ``private_key``: signs the decision. ``after``: the
    decisions that this one is based on; when there is a newer one, it is void. Raises PromotionError (not
    allowed, or another decision came first: nothing is changed then), UsageError, SignatureError,
    RegistryError (the record or the store)."""
    if action != PROMOTE and not reason.strip():
        raise UsageError(f"to {action} needs a reason.", stage=STAGE, action="give it with --reason.")
    override = checked_text("override", override, stage=STAGE)  # one of blanks alone gives no reason
    snapshot, about = open_version(selection, runs, public_key)
    name, version = str(about.name), str(about.version)
    before = after or snapshot.standing(name)
    if action == PROMOTE and before.champion == version:
        apply_decisions(snapshot, name)
        return _to_json(name, before.last(version), changed=False)
    # only for a promotion: a version whose record was tampered with must remain revocable
    checked = _criteria(snapshot, about, runs, policy) if action == PROMOTE else []
    promotion.check_decision(before, version, action, checked, override)
    short = any(not one.holds for one in checked) or before.states.get(version) == REJECTED
    decision = Decision(
        number=0,
        version=version,
        action=action,
        by=by,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        reason=override or reason,
        overridden=bool(override) and short,
        criteria=[asdict(one) for one in checked],
    )
    decision = append_decision(snapshot.tracking, about, decision, before, private_key)
    stale_cards = apply_decisions(snapshot.reload(), name)
    return {**_to_json(name, decision, changed=True), **({"cards": stale_cards} if stale_cards else {})}


def append_decision(
    tracking: Tracking, about: ModelVersion, decision: Decision, after: Standing, private_key: str = ""
) -> Decision:
    """Append a decision behind the last one of ``after``. Raises PromotionError when somebody else was
    faster: then nothing was decided."""
    last = after.decisions[-1] if after.decisions else None
    decision, counted = DECISION_LOG.append(
        tracking, f"{about.name}{DECISIONS}", decision, last, about=about, private_key=private_key
    )
    if decision not in counted:
        first = next(one for one in counted if one.previous == decision.previous)
        theirs = f"{about.name}: {first.by} decided first: {first.action} {first.version}."
        what = f"{theirs} Yours (decision {decision.number}) is void."
        action = f"look at `fade decisions {about.name}`, and decide again if it still holds."
        raise PromotionError(what, stage=STAGE, action=action)
    return decision


def history(name: str, runs: Path) -> Standing:
    """All decisions about a model's versions. Completes what a stopped decision left open (the alias). Raises
    UnknownNameError."""
    snapshot, version = open_version(name, runs)
    apply_decisions(snapshot, str(version.name))
    return snapshot.standing(str(version.name))


def apply_decisions(snapshot: RegistrySnapshot, name: str) -> list[str]:
    """Make MLflow's alias, tags and descriptions say what the decisions say, also while others decide.

    Returns what could not be written into a description: an outdated card undoes no decision."""
    stale_cards: list[str] = []
    while (standing := snapshot.standing(name)).decisions:
        changed = _apply_alias(snapshot, name, standing.champion)
        for number, state in standing.states.items():
            version = snapshot.version(f"{name}/{number}")
            if version is not None and version.tags.get(STATE) != state:
                set_tags(snapshot.tracking, version, {STATE: state})
                try:
                    refresh(snapshot.tracking, version, standing=standing)
                except (FadeError, OSError, ValueError) as error:
                    stale_cards.append(f"{name}/{number}: {error}")
                changed = True
        if not changed:
            break
        # Somebody may have decided between the read and the writes, which were outdated then.
        snapshot = snapshot.reload()
        if snapshot.standing(name).head == standing.head:
            break
    return stale_cards


def _criteria(
    snapshot: RegistrySnapshot, about: ModelVersion, runs: Path, policy: PromotionPolicy
) -> list[Criterion]:
    traced = read(snapshot.tracking, about)
    if parts := revoked_parts(snapshot, about):
        what = f"{traced.label} holds {', '.join(parts)}, which was revoked."
        raise PromotionError(what, stage=STAGE, action="make another with `fade release`.")
    checked = promotion.criteria(traced.lineage.content, policy)
    if snapshot.public_key:
        verify_signature(snapshot, traced, fetch(snapshot, about, runs))
        checked.append(Criterion("signature", holds=True))
    return checked


def _apply_alias(snapshot: RegistrySnapshot, name: str, champion: str | None) -> bool:
    alias, client = snapshot.aliases(name).get(CHAMPION), snapshot.tracking.client
    if alias == champion:
        return False
    with registry_errors(snapshot.tracking.address):
        if champion is None:
            client.delete_registered_model_alias(name, CHAMPION)
        else:
            client.set_registered_model_alias(name, CHAMPION, champion)
    return True


def _to_json(name: str, decision: Decision | None, *, changed: bool) -> dict[str, Any]:
    assert decision is not None
    return {"model": name, "changed": changed, **asdict(decision), "sha256": decision.sha256()}
