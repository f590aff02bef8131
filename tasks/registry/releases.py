"""The releases that there are: which is current, what each holds, and the way back to an earlier one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fade.config import Params
from fade.errors import PromotionError
from fade.governance.promotion import PROMOTE, RETIRED, Standing
from fade.governance.release_plan import ladder, previous, release_name, rollback_reason, taken_back
from tasks.registry.decision_log import standing
from tasks.registry.decisions import decide
from tasks.registry.tracking import Tracking, all_versions, connect
from tasks.registry.verify import examine
from tasks.registry.versions import parts_of, resolve, revoked_parts

STAGE = "rollback"


def releases(params: Params, runs: Path) -> list[dict[str, Any]]:
    """Every release, newest first: version, parts, state, when, and which of its parts were revoked since.
    Raises RegistryError."""
    tracking = connect(runs, timeout=params.register_.timeout_seconds)
    name = release_name(params.register_.model_prefix)
    found = standing(tracking, name)
    out = []
    for version in all_versions(tracking, name):
        number = str(version.version)
        last = next((one for one in reversed(found.decisions) if one.version == number), None)
        back = taken_back(found, number)
        out.append(
            {
                "name": name,
                "version": number,
                "state": found.states.get(number, "not decided"),
                "current": found.champion == number,
                "parts": parts_of(version),
                "revoked": revoked_parts(tracking, version),
                "adapter_sha256": version.tags.get("adapter_sha256", ""),
                "made_at": datetime.fromtimestamp(int(version.creation_timestamp) / 1000, UTC).isoformat(
                    timespec="seconds"
                ),
                "decided_at": last.at if last else None,
                "by": last.by if last else None,
                "taken_back": {"by": back.by, "at": back.at, "reason": back.reason} if back else None,
            }
        )
    return out


def rollback(params: Params, runs: Path, *, by: str, reason: str, to: str | None = None) -> dict[str, Any]:
    """Make the release before the current one (or ``to``) current again: one more decision, of the same
    bytes.

    Bytes, record, header, signature (when there is a key) and parts of that release are verified first.
    Raises PromotionError (no such release, a part was revoked, or another decision came first), AdapterError,
    RegistryError, SignatureError; nothing is changed then."""
    tracking = connect(runs, timeout=params.register_.timeout_seconds)
    name = release_name(params.register_.model_prefix)
    found = standing(tracking, name)
    held = {str(version.version): version for version in all_versions(tracking, name)}
    wanted = to or previous(
        found, lambda number: revoked_parts(tracking, held[number]) if number in held else ["it"]
    )
    target = resolve(tracking, f"{name}/{wanted}")
    number = str(target.version)
    _allowed(tracking, found, name, number)
    before = found.champion or next(reversed(ladder(found.decisions)), "")
    key = params.signing.public_key
    traced, adapter = examine(tracking, target, runs, key)
    why = rollback_reason(before, reason)
    done = decide(
        PROMOTE,
        f"{name}/{number}",
        runs,
        params.gate,
        by=by,
        reason=why,
        override=why,
        public_key=key,
        after=found,
    )
    gone = set(parts_of(held[before])) if before in held else set()
    back = set(parts_of(target))
    return {
        **done,
        "from": before,
        "to": number,
        "adapter": str(adapter),
        "adapter_sha256": traced.tags["adapter_sha256"],
        "parts": parts_of(target),
        "parts_out": sorted(gone - back),
        "parts_in": sorted(back - gone),
    }


def _allowed(tracking: Tracking, found: Standing, name: str, number: str) -> None:
    state = found.states.get(number, "never promoted")
    if state != RETIRED:
        what = f"{name}/{number} cannot be gone back to: it is {'current' if found.champion == number else state}."
        known = ", ".join(version for version, state in found.states.items() if state == RETIRED) or "none"
        raise PromotionError(what, stage=STAGE, action=f"name one of {known} with --to; see `fade releases`.")
    if gone := revoked_parts(tracking, resolve(tracking, f"{name}/{number}")):
        what = f"{name}/{number} holds {', '.join(gone)}, which was revoked."
        raise PromotionError(
            what, stage=STAGE, action="name another release with --to, or make one with `fade release`."
        )
