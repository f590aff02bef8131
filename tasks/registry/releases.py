"""The registered releases: which is current, what each is made of, and the way back to an earlier one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import Params
from fade.errors import FadeError, PromotionError
from fade.governance.promotion import CHAMPION, PROMOTE, RETIRED
from fade.governance.release_plan import ladder, previous, release_name, rollback_reason, taken_back
from tasks.registry.connection import connect
from tasks.registry.decisions import decide
from tasks.registry.log_store import TRUST
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.trust import Trust
from tasks.registry.verify import verify_version
from tasks.registry.versions import parts_of, resolve, revoked_parts, stays_out

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

STAGE = "rollback"


def releases(params: Params, runs: Path, root: Path = Path()) -> list[dict[str, Any]]:
    """Every release, newest first: version, parts, state, when, which of its parts are revoked now, and
    ``unreadable``: why one cannot be shown. Raises RegistryError, PromotionError, SignatureError."""
    name, snapshot = _load(params, runs, root)
    return [_row(snapshot, version) for version in snapshot.versions_of(name)]


def rollback(
    params: Params, runs: Path, root: Path = Path(), *, by: str, reason: str, to: str | None = None
) -> dict[str, Any]:
    """Make the release before the current one (or ``to``) current again: one more decision, of the same
    bytes.

    Bytes, record, header, signature (when there is a key) and parts of that release are verified first.
    Raises PromotionError (no such release, a part was revoked, or another decision came first), AdapterError,
    RegistryError, SignatureError; nothing is changed then."""
    name, snapshot = _load(params, runs, root)
    standing = snapshot.standing(name)
    versions = {str(version.version): version for version in snapshot.versions_of(name)}
    number = to or previous(
        standing, lambda one: revoked_parts(snapshot, versions[one]) if one in versions else ["it"]
    )
    target = resolve(snapshot, f"{name}/{number}")
    number = str(target.version)
    _check_allowed(snapshot, target)
    before = standing.champion or next(reversed(ladder(standing.decisions)), "")
    traced, adapter = verify_version(snapshot, target, runs, parts=False)
    why = rollback_reason(before, reason)
    decision = decide(
        PROMOTE,
        traced.label,
        runs,
        params.gate,
        by=by,
        reason=why,
        override=why,
        trust=snapshot.trust,
        after=standing,
    )
    old, new = parts_of(versions[before]) if before in versions else [], parts_of(target)
    return {
        **decision,
        "from": before,
        "to": number,
        "adapter": str(adapter),
        "adapter_sha256": traced.tags["adapter_sha256"],
        "parts": new,
        "parts_out": sorted({*old} - {*new}),
        "parts_in": sorted({*new} - {*old}),
    }


def current_holding(label: str, runs: Path, trust: Trust = TRUST) -> str:
    """The current release, ``NAME/VERSION``, of which the version ``label`` is a part; else empty. Raises
    RegistryError, PromotionError, SignatureError."""
    model = label.rpartition("/")[0]
    snapshot = RegistrySnapshot.load_model(connect(runs), model, trust)
    # a model is PREFIX-CONCEPT, and both may have hyphens
    prefixes = [model[:i] for i, sign in enumerate(model) if sign == "-"]
    for name in map(release_name, filter(None, prefixes)):
        version = snapshot.champion(name)
        if version is not None and label in parts_of(version):
            return f"{name}/{version.version}"
    return ""


def why_stays_out(snapshot: RegistrySnapshot, label: str) -> str:
    """Why the version ``label`` is in no release, as the last one that names it has it; empty when the
    current or a later one holds it, or none names it. A release that cannot be read names nobody here: its
    own row in `releases` shows that."""
    name = release_name(snapshot.prefix)
    try:
        current = snapshot.champion(name)
        if current is not None and label in parts_of(current):
            return ""
        for version in snapshot.versions_of(name):
            snapshot.binding(version)
            if why := stays_out(version).get(label, ""):
                return f"stays out of the release: {why}, by {name}/{version.version}"
            if label in parts_of(version):
                return ""
    except FadeError:
        pass
    return ""


def _load(params: Params, runs: Path, root: Path) -> tuple[str, RegistrySnapshot]:
    tracking = connect(runs, timeout=params.register_.timeout_seconds)
    name = release_name(params.register_.model_prefix)
    return name, RegistrySnapshot.load_model(tracking, name, Trust.of(params.signing, root))


def _row(snapshot: RegistrySnapshot, version: ModelVersion) -> dict[str, Any]:
    number, standing = str(version.version), snapshot.standing(str(version.name))
    last, back = standing.last(number), taken_back(standing, number)
    made_at = datetime.fromtimestamp(int(version.creation_timestamp) / 1000, UTC)
    parts: list[str] = []
    revoked: list[str] = []
    unreadable = ""
    try:
        parts, revoked = parts_of(version), revoked_parts(snapshot, version)
    except FadeError as error:
        unreadable = str(error)
    return {
        "name": str(version.name),
        "version": number,
        "state": standing.states.get(number, "not decided"),
        "current": standing.champion == number,
        "parts": parts,
        "revoked": revoked,
        "unreadable": unreadable,
        "adapter_sha256": version.tags.get("adapter_sha256", ""),
        "made_at": made_at.isoformat(timespec="seconds"),
        "decided_at": last.at if last else None,
        "by": last.by if last else None,
        "taken_back": {"by": back.by, "at": back.at, "reason": back.reason} if back else None,
    }


def _check_allowed(snapshot: RegistrySnapshot, target: ModelVersion) -> None:
    label, states = f"{target.name}/{target.version}", snapshot.standing(str(target.name)).states
    state = states.get(str(target.version), "never promoted")
    if state != RETIRED:
        current = "current" if state == CHAMPION else state
        known = ", ".join(one for one, state in states.items() if state == RETIRED) or "none"
        action = f"name one of {known} with --to; see `fade releases`."
        raise PromotionError(f"{label} cannot be gone back to: it is {current}.", stage=STAGE, action=action)
    if parts := revoked_parts(snapshot, target):
        what = f"{label} holds {', '.join(parts)}, which was revoked."
        action = "name another release with --to, or make one with `fade release`."
        raise PromotionError(what, stage=STAGE, action=action)
