"""Promote a version to champion, reject or revoke it: the decision is recorded, then the alias follows."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import PromotionPolicy
from fade.errors import FadeError, PromotionError, UsageError
from fade.governance import promotion
from fade.governance.history import binding
from fade.governance.log_names import DECISIONS
from fade.governance.promotion import CHAMPION, PROMOTE, REJECTED, STAGE, Criterion, Decision, Standing
from fade.utils.text import checked_text
from tasks.registry.card import refresh
from tasks.registry.connection import Tracking, registry_errors
from tasks.registry.lineage import read
from tasks.registry.log_store import DECISION_LOG, TRUST
from tasks.registry.models import set_tags
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.trust import Trust
from tasks.registry.verify import check_concept, verify_signature
from tasks.registry.versions import check_not_revoked, fetch, open_version, revoked_parts

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
    trust: Trust = TRUST,
    after: Standing | None = None,
) -> dict[str, Any]:
    """Take one decision, of `fade.governance.promotion.ACTIONS`, about one version; returns it, with
    ``changed`` False for a promotion of the champion.

    A promotion compares the version's record with the policy and verifies its registration and, with a public
    key, the signatures of adapter, record and decisions; ``override`` is the reason why a criterion need not
    hold (a signature and a revocation always count). trust: signs and verifies; its witness records the
    decision. ``after``: the decisions that this one is based on; it is void behind a newer one. Raises
    PromotionError (not allowed, or another decision came first: nothing is changed then), UsageError,
    SignatureError, RegistryError (the record or the store)."""
    override = promotion.check_override(override)
    if action != PROMOTE and not reason.strip():
        raise UsageError(f"to {action} needs a reason.", stage=STAGE, action="give it with --reason.")
    override = checked_text("override", override, stage=STAGE)  # one of blanks alone gives no reason
    snapshot, about = open_version(selection, runs, trust)
    name, version = str(about.name), str(about.version)
    before = after or snapshot.standing(name)
    if action == PROMOTE and before.champion == version:
        check_not_revoked(snapshot, about)
        snapshot.binding(about)
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
        adapter_sha256=_adapter_sha256(snapshot, about),
    )
    decision = append_decision(snapshot.tracking, about, decision, before, trust)
    stale_cards = apply_decisions(snapshot.reload(), name)
    return {**_to_json(name, decision, changed=True), **({"cards": stale_cards} if stale_cards else {})}


def append_decision(
    tracking: Tracking, about: ModelVersion, decision: Decision, after: Standing, trust: Trust = TRUST
) -> Decision:
    """Append a decision behind the last one of ``after``. Raises PromotionError when somebody else was
    faster: then nothing was decided."""
    last = after.decisions[-1] if after.decisions else None
    decision, counted = DECISION_LOG.append(
        tracking, f"{about.name}{DECISIONS}", decision, last, about=about, trust=trust
    )
    if decision not in counted:
        first = next(one for one in counted if one.previous == decision.previous)
        theirs = f"{about.name}: {first.by} decided first: {first.action} {first.version}."
        what = f"{theirs} Yours (decision {decision.number}) is void."
        action = f"look at `fade decisions {about.name}`, and decide again if it still holds."
        raise PromotionError(what, stage=STAGE, action=action)
    return decision


def history(name: str, runs: Path, trust: Trust = TRUST) -> Standing:
    """All decisions about a model's versions. Completes what a stopped decision left open (the alias). Raises
    UnknownNameError, PromotionError, SignatureError."""
    snapshot, version = open_version(name, runs, trust)
    apply_decisions(snapshot, str(version.name))
    return snapshot.standing(str(version.name))


def apply_decisions(snapshot: RegistrySnapshot, name: str) -> list[str]:
    """Make MLflow's alias, tags and descriptions say what the decisions say, also while others decide.

    Returns what could not be written into a description: an outdated card undoes no decision."""
    stale_cards: list[str] = []
    while (standing := snapshot.standing(name)).decisions:
        champion = snapshot.champion(name)  # None, too, for one that was deleted by hand
        changed = _apply_alias(snapshot, name, str(champion.version) if champion else None)
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
    traced = read(snapshot, about)
    check_concept(traced)
    if (revoked := snapshot.revoked_as(about)) and revoked != traced.label:
        what = f"{traced.label} has the bytes of {revoked}, which was revoked."
        action = "a revocation is final; train and register another version."
        raise PromotionError(what, stage=STAGE, action=action)
    if parts := revoked_parts(snapshot, about):
        what = f"{traced.label} holds {', '.join(parts)}, which was revoked."
        raise PromotionError(what, stage=STAGE, action="make another with `fade release`.")
    checked = promotion.criteria(traced.lineage.content, policy)
    if snapshot.trust.public_key:
        verify_signature(snapshot, traced, fetch(snapshot, about, runs, revoked=True))
        checked.append(Criterion("signature", holds=True))
    return checked


def _adapter_sha256(snapshot: RegistrySnapshot, about: ModelVersion) -> str:
    """Of the version as it was registered; of one that was tampered with, as its tag has it."""
    number = str(about.version)
    tags: Mapping[str, str] = about.tags
    with contextlib.suppress(FadeError):
        bound = binding(snapshot.history(str(about.name)), number)
        tags = bound.tags if bound else tags
    sha256 = tags.get("adapter_sha256", "")
    return sha256 if re.fullmatch(r"[0-9a-f]{64}", sha256) else ""


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
