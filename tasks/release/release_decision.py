"""Compare a release with the current one, and make it current when it may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import Params, PromotionPolicy
from fade.errors import PromotionError
from fade.governance.promotion import PROMOTE, REJECT, STATES, Standing, check_override
from fade.governance.release_plan import STAGE, release_name, shortfalls, taken_back
from tasks.registry.connection import Tracking
from tasks.registry.decisions import decide
from tasks.registry.lineage import read
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.trust import Trust
from tasks.registry.versions import parts_of, revoked_parts
from tasks.release.build_release import ReleaseParts

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class ReleaseOptions:
    """Options of `fade release`."""

    params: Params
    runs: Path = Path("runs")
    root: Path = Path()
    overrides: tuple[str, ...] = ()
    params_file: str = "params.yaml"
    by: str = ""
    override: str = ""
    """Why the release becomes current although it falls short."""
    without: tuple[str, ...] = ()
    """Concepts whose champions stay out."""

    def __post_init__(self) -> None:
        check_override(self.override)

    @property
    def trust(self) -> Trust:
        """What the registry is verified against and signed by."""
        return Trust.of(self.params.signing, self.root)

    @property
    def name(self) -> str:
        """Of the release's model."""
        return release_name(self.params.register_.model_prefix)


def compare_with_current(
    tracking: Tracking, options: ReleaseOptions, selected: ReleaseParts
) -> dict[str, Any]:
    """The selected champions, and their differences from the current release."""
    snapshot = RegistrySnapshot.load_model(tracking, options.name, options.trust)
    version = snapshot.champion(options.name)
    before, now = set(parts_of(version)) if version else set(), set(selected.labels)
    return {
        "name": options.name,
        "parts": selected.labels,
        "concepts": selected.concepts,
        "left_out": selected.left_out,
        "without": list(options.without),
        "was_current": str(version.version) if version else None,
        "was_current_holds_revoked": revoked_parts(snapshot, version) if version else [],
        "parts_in": sorted(now - before),
        "parts_out": sorted(before - now),
    }


def make_current(tracking: Tracking, options: ReleaseOptions, version: ModelVersion) -> dict[str, Any]:
    """Promote the release when it passes the gate, or ``options.override`` says why it may. ``current``,
    ``refused`` (a sentence, or empty), its numbers, and the decision; of one that the gate refuses
    ``stays_out``, as `fade.governance.exclusion.exclusion` has it.

    The same release again does not undo a rollback. Raises PromotionError for one that was revoked."""
    snapshot = RegistrySnapshot.load_model(tracking, str(version.name), options.trust)
    traced = read(snapshot, version)
    record, label, number = traced.lineage.content, traced.label, traced.version
    gate = options.params.gate
    standing = snapshot.standing(traced.name)
    result = {
        "adapter_sha256": record["outputs"]["adapter_sha256"],
        "concepts_judged": record["outputs"]["parts"],
        "metrics": record["outputs"]["whole"]["metrics"],
        "kept": record["outputs"].get("kept", {}),
        "breaks": record.get("release", {}).get("predicted", {}).get("breaks", ""),
        "current": True,
        "refused": "",
        "stays_out": {},
    }
    if standing.champion == number and not snapshot.revoked_as(version):
        return result
    if snapshot.revoked_as(version):
        what = f"{label} holds just these champions and was revoked."
        raise PromotionError(what, stage=STAGE, action="promote another champion first.")
    short = shortfalls(record, gate)
    refused = _refusal(standing, number, short)
    if refused and not options.override:
        refused = f"{label} is registered, but not current: {refused}"
        return {**result, "current": False, "refused": refused, "stays_out": _stays_out(record, gate, short)}
    decision = decide(
        PROMOTE, label, options.runs, gate, by=options.by, reason="", override=options.override,
        trust=options.trust,
    )  # fmt: skip
    return {**result, "decision": decision}


def _stays_out(record: Mapping[str, Any], gate: PromotionPolicy, short: list[str]) -> dict[str, Any]:
    """Of a release that the gate refuses; one that was taken back or rejected has no such set."""
    from fade.governance.exclusion import exclusion

    return exclusion(record, gate) if short else {}


def _refusal(standing: Standing, number: str, short: list[str]) -> str:
    """Why the release ``number`` does not become current; empty when nothing is against it."""
    if short:
        return f"{'; '.join(short)}."
    if rollback := taken_back(standing, number):
        return f"{rollback.by} took it back ({rollback.reason})."
    return "it was rejected." if standing.states.get(number) == STATES[REJECT] else ""
