"""Make a version again for an audit, with a control, and compare: a run is replayed, a release added up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fade.config import Params
from fade.errors import FadeError, RegistryUnreachableError, StorageError
from fade.governance.audit import (
    DIFFERENT,
    IDENTICAL,
    MISSING,
    STAGE,
    TRAIN,
    Verdict,
    compare_control,
    compare_lineages,
    same_weights,
)
from fade.provenance.lineage import REPOSITORY, Difference, Lineage
from fade.run.context import RunContext
from fade.utils import progress
from fade.utils.files import make_folder
from tasks.launch.git_worktree import checkout, has_commit
from tasks.registry.connection import Tracking
from tasks.registry.versions import ADAPTER
from tasks.release.build_release import sum_versions
from tasks.release.replay import Replay, replay_run

SEED_STEP = 1
"""The control's training seed is the recorded one plus this."""
CONTROL = ("evaluate.images_per_concept=2", "evaluate.rest_concepts=1", "evaluate.bootstrap=50")
"""A control is compared by its weights: its metrics are not read."""


@dataclass(frozen=True)
class AuditOptions:
    """Options of an audit."""

    params: Params
    runs: Path
    root: Path = Path()
    repository: Path = REPOSITORY
    by: str = ""
    evidence_only: bool = False
    with_control: bool = True


@dataclass(frozen=True)
class AuditOutcome:
    """The verdict on a version, the replay that it rests on, and the verdict on the control."""

    verdict: Verdict
    replay: Replay | None = None
    control: str = ""
    """Empty: there was no control."""


def audit_run(record: Lineage, adapter: Path, folder: Path, options: AuditOptions) -> AuditOutcome:
    """Replay a run from its commit into ``folder``/runs, and once more as the control, with another training
    seed.

    A failed replay is a verdict; raises RegistryUnreachableError, StorageError."""
    code = record.content["code"]
    if not code["commit"] or not has_commit(code["commit"], options.repository):
        why = f"commit {code['commit']} is not here" if code["commit"] else "no commit was recorded"
        return AuditOutcome(Verdict(MISSING, f"the code: {why}"))
    try:
        replay, changed = _replays(record, folder / "runs", options)
    except (RegistryUnreachableError, StorageError):
        raise
    except FadeError as error:
        return AuditOutcome(Verdict(MISSING, error.what))
    _, header_only = same_weights(adapter, replay.folder / ADAPTER)
    verdict = compare_lineages(record, replay.lineage, header_only=header_only)
    if verdict.name == DIFFERENT and code["dirty"]:
        what = f"the code: the run was made from a tree with uncommitted changes; {verdict}"
        verdict = Verdict(MISSING, what, verdict.differences, verdict.reasons)
    if changed is None:
        return AuditOutcome(verdict, replay)
    same, _ = same_weights(replay.folder / ADAPTER, changed.folder / ADAPTER)
    checked = compare_control(replay.lineage, changed.lineage, same_weights=same)
    if (checked.name, checked.stage) != (DIFFERENT, TRAIN):  # this audit's comparison detects nothing
        seeds = f"the control, of another seed, came out {checked.name}"
        what = f"{seeds}: this audit cannot tell two trainings apart"
        verdict = Verdict(MISSING, what, verdict.differences, verdict.reasons)
    return AuditOutcome(verdict, replay, checked.name)


def _replays(record: Lineage, runs: Path, options: AuditOptions) -> tuple[Replay, Replay | None]:
    """The replay, and the control's unless the options leave it out."""

    def reporter(which: str) -> Callable[[str], None]:
        return lambda text: progress.report(f"audit {which}", 0, 0, text)

    deadline = options.params.audit.deadline_seconds
    with checkout(str(record.content["code"]["commit"]), options.repository) as tree:
        replay = replay_run(record, tree, runs, deadline=deadline, on_progress=reporter("re-run"))
        if not options.with_control:
            return replay, None
        seed = int(record.content["seeds"]["train"]) + SEED_STEP
        overrides = [*CONTROL, f"train.seed={seed}"]
        changed = replay_run(
            record, tree, runs, deadline=deadline, on_progress=reporter("control"), overrides=overrides
        )
    return replay, changed


def audit_release(tracking: Tracking, record: Lineage, folder: Path, options: AuditOptions) -> AuditOutcome:
    """Add a release's parts up, and as the control all but the last one.

    A release is not evaluated: its parts have audits of their own, and their sum has the recorded bytes or
    not."""
    content = record.content
    run = RunContext(options.params, "", options.runs, options.root)
    if run.models.base.sha256 != content["base"]["sha256"]:
        bases = f"{run.models.base.sha256} is here, {content['base']['sha256']} is asked for"
        return AuditOutcome(Verdict(MISSING, f"the base: {bases}"))
    labels = sorted(content["parts"], key=lambda label: str(label).rpartition("/")[0])  # the order of the sum

    def sum_of(which: str, parts: list[str]) -> str:
        progress.report(f"{STAGE} {which}", 0, 0, " + ".join(parts))
        make_folder(folder / which)
        return sum_versions(tracking, run, parts, folder / which)

    recorded, sha256 = str(content["outputs"]["adapter_sha256"]), sum_of("again", labels)
    note = f"added up again from {', '.join(labels)}, which have audits of their own; not judged again"
    verdict = Verdict(IDENTICAL, note=note)
    if sha256 != recorded:
        difference = Difference("outputs.adapter_sha256", recorded, sha256)
        verdict = Verdict(DIFFERENT, TRAIN, [difference])
    if not options.with_control or len(labels) == 1:
        return AuditOutcome(verdict)
    if sum_of("control", labels[:-1]) == sha256:
        sums = "the control, a sum without one part, came out the same"
        what = f"{sums}: this audit cannot tell two sums apart"
        return AuditOutcome(Verdict(MISSING, what), control=IDENTICAL)
    return AuditOutcome(verdict, control=DIFFERENT)
