"""The audit: evidence -> the code, the data and the run again -> a control -> verdict -> report -> the chain
of audits.

A plain function and no flow of Prefect's: an audit must be possible where nothing runs, and its record is not
Prefect's database."""

from __future__ import annotations

import getpass
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import Params
from fade.errors import AuditError, FadeError, RegistryUnreachableError, StorageError
from fade.governance.audit import (
    BROKEN,
    DIFFERENT,
    HOLDS,
    IDENTICAL,
    MISSING,
    STAGE,
    TRAIN,
    Audit,
    Verdict,
    compare_control,
    compare_lineages,
    same_weights,
    stages,
)
from fade.provenance.lineage import REPOSITORY, Difference
from fade.utils import progress
from fade.utils.files import make_folder, write_json, write_whole
from fade.utils.hashing import sha256_of
from tasks.launch.git_worktree import checkout, has_commit
from tasks.registry import audit_log as audits
from tasks.registry.artifacts import download_artifact
from tasks.registry.connection import Tracking, connect
from tasks.registry.lineage import Traced
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.versions import ADAPTER, load_snapshot, resolve
from tasks.release.gather_evidence import Evidence, gather
from tasks.release.replay import Repeated, rerun

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

ALL, CHAMPIONS = "all", "champions"
SEED_STEP = 1
"""What the control adds to the training's seed."""
CONTROL = ("evaluate.images_per_concept=2", "evaluate.rest_concepts=1", "evaluate.bootstrap=50")
"""A control is known by its weights: nobody reads its metrics."""


def audit(
    wanted: str,
    params: Params,
    runs: Path,
    *,
    evidence_only: bool = False,
    with_control: bool = True,
    by: str = "",
    root: Path = Path(),
    repository: Path = REPOSITORY,
) -> list[dict[str, Any]]:
    """Audit a version (NAME/VERSION, NAME@ALIAS, NAME), every version (``all``) or every champion
    (``champions``).

    Returns one object a version: verdict, evidence, stages, control, report. What is wrong with a version is
    its verdict, not an exception; raised are RegistryError (the store), UsageError and UnknownNameError
    (``wanted``), StorageError (no room for the report)."""
    tracking = connect(runs, timeout=params.register_.timeout_seconds)
    chosen = versions(tracking, wanted)
    asked = _Asked(params, runs, root, repository, by or getpass.getuser(), evidence_only, with_control)
    return [_one(tracking, version, asked) for version in chosen]


def versions(tracking: Tracking, wanted: str) -> list[ModelVersion]:
    """What ``wanted`` names. Entries of logs are no versions."""
    if wanted not in (ALL, CHAMPIONS):
        return [resolve(load_snapshot(tracking, wanted), wanted)]
    snapshot = RegistrySnapshot.load(tracking)
    return snapshot.adapters() if wanted == ALL else snapshot.all_champions()


@dataclass(frozen=True)
class _Asked:
    params: Params
    runs: Path
    root: Path
    repository: Path
    by: str
    evidence_only: bool
    with_control: bool


def _one(tracking: Tracking, version: ModelVersion, asked: _Asked) -> dict[str, Any]:
    label, began = f"{version.name}/{version.version}", datetime.now(UTC)
    progress.report(f"audit {label}", 0, 0, "evidence")
    evidence = gather(tracking, version, asked.runs, asked.params.signing.public_key, asked.repository)
    folder = asked.runs / "audit" / str(version.name) / f"{version.version}-{began:%Y%m%dT%H%M%S%f}"
    report = folder / "report"
    make_folder(report)
    again: Repeated | None = None
    checked = ""
    if not evidence.holds or evidence.traced is None:
        verdict = Verdict(BROKEN, evidence.broken)
    elif asked.evidence_only:
        verdict = Verdict(HOLDS)
    elif "parts" in evidence.traced.lineage.content:
        verdict, checked = _add_again(tracking, evidence, folder, asked)
    else:
        verdict, again, checked = _repeat(evidence, folder, asked)
    traced = evidence.traced
    content: dict[str, Any] = {
        "schema": 1,
        "model": str(version.name),
        "version": str(version.version),
        "verdict": verdict.to_json(),
        "control": checked,
        "by": asked.by,
        "at": began.isoformat(timespec="seconds"),
        "seconds": round((datetime.now(UTC) - began).total_seconds(), 1),
        "evidence": evidence.rows,
        "stages": stages(traced.lineage, again.lineage if again else None) if traced else [],
        "recorded": traced.to_json() if traced else None,
        "again": dict(again.lineage.content) if again else None,
        "command": _command(label, asked.evidence_only),
    }
    write_json(report / "audit.json", content)
    _pictures(tracking, traced, again, report)
    from fade.reporting.audit import render_audit

    page = write_whole(report / "audit.html", render_audit(content, report), stage=STAGE)
    link = _link(content, verdict, traced, checked, sha256_of(report / "audit.json"))
    done = {**content, "good": verdict.good, "report": str(page), "number": None}
    try:
        key = asked.params.signing.private_key
        link = audits.record(
            tracking, version, link, report, asked.params.audit.experiment, asked.runs, _metrics(again), key
        )
        done |= {"number": link.number, "sha256": link.sha256(), "run_id": link.run_id}
    # a chain that cannot be trusted takes no further link; the report says why, and the others go on
    except AuditError as error:
        done |= {"good": False, "unrecorded": str(error)}
    progress.report(f"audit {label}", 1, 1, verdict.name)
    return done


def _repeat(evidence: Evidence, folder: Path, asked: _Asked) -> tuple[Verdict, Repeated | None, str]:
    """(the verdict, the re-run, what the control came out as)."""
    assert evidence.traced is not None and evidence.adapter is not None
    record = evidence.traced.lineage
    commit = record.content["code"]["commit"]
    if not commit or not has_commit(commit, asked.repository):
        return (
            Verdict(
                MISSING,
                f"the code: {'no commit was recorded' if not commit else f'commit {commit} is not here'}",
            ),
            None,
            "",
        )
    runs, deadline = folder / "runs", asked.params.audit.deadline_seconds

    def said(which: str) -> Any:
        return lambda text: progress.report(f"audit {which}", 0, 0, text)

    try:
        with checkout(commit, asked.repository) as tree:
            again = rerun(record, tree, runs, deadline=deadline, told=said("re-run"))
            changed = None
            if asked.with_control:
                seed = int(record.content["seeds"]["train"]) + SEED_STEP
                changed = rerun(
                    record,
                    tree,
                    runs,
                    deadline=deadline,
                    asked=[*CONTROL, f"train.seed={seed}"],
                    told=said("control"),
                )
    except (RegistryUnreachableError, StorageError):
        raise
    except FadeError as error:
        return Verdict(MISSING, error.what), None, ""
    _, why = same_weights(evidence.adapter, again.folder / ADAPTER)
    verdict = compare_lineages(record, again.lineage, header_only=why)
    if verdict.name == DIFFERENT and record.content["code"]["dirty"]:
        what = f"the code: the run was made from a tree with uncommitted changes; {verdict}"
        verdict = Verdict(MISSING, what, verdict.differences, verdict.reasons)
    if changed is None:
        return verdict, again, ""
    same, _ = same_weights(again.folder / ADAPTER, changed.folder / ADAPTER)
    checked = compare_control(again.lineage, changed.lineage, same_weights=same)
    if (checked.name, checked.stage) != (
        DIFFERENT,
        TRAIN,
    ):  # then nothing that this audit says is worth anything
        outcome = f"the control, of another seed, came out {checked.name}"
        what = f"{outcome}: this audit cannot tell two trainings apart"
        return Verdict(MISSING, what, verdict.differences, verdict.reasons), again, checked.name
    return verdict, again, checked.name


def _add_again(tracking: Tracking, evidence: Evidence, folder: Path, asked: _Asked) -> tuple[Verdict, str]:
    """Of a release: (the verdict on its parts added up again, what the control came out as).

    The control is the sum without its last part. A release is not judged again: its parts have audits of
    their own, and what they are together is a sum that is the same or not."""
    from fade.run.context import RunContext
    from tasks.release.build_release import added_again

    assert evidence.traced is not None and evidence.adapter is not None
    record, sums = evidence.traced.lineage.content, {}
    run = RunContext(asked.params, "", asked.runs, asked.root)
    labels = sorted(
        record["parts"], key=lambda label: label.rpartition("/")[0]
    )  # by name, as they were added up
    if run.base.sha256 != record["base"]["sha256"]:
        return Verdict(
            MISSING, f"the base: {run.base.sha256} is here, {record['base']['sha256']} is asked for"
        ), ""
    for which, some in (("again", labels), ("control", labels[:-1])):
        progress.report(f"audit {which}", 0, 0, " + ".join(some))
        if some and (which == "again" or asked.with_control):
            make_folder(folder / which)
            sums[which] = added_again(tracking, run, some, folder / which, asked.runs)
    path, said = "outputs.adapter_sha256", str(record["outputs"]["adapter_sha256"])
    note = f"added up again from {', '.join(labels)}, which have audits of their own; not judged again"
    verdict = Verdict(IDENTICAL, note=note)
    if sums["again"] != said:
        verdict = Verdict(DIFFERENT, TRAIN, [Difference(path, said, sums["again"])])
    if "control" not in sums:
        return verdict, ""
    if sums["control"] == sums["again"]:
        return Verdict(
            MISSING,
            "the control, a sum without one part, came out the same: this audit cannot tell two sums apart",
        ), IDENTICAL
    return verdict, DIFFERENT


def _pictures(tracking: Tracking, traced: Traced | None, again: Repeated | None, report: Path) -> None:
    """Before and after as it was registered, and as it came out again."""
    if again is None or traced is None:
        return
    source = again.folder / "pictures" / "before-after.png"
    if source.is_file():
        shutil.copyfile(source, report / "again.png")
    with tempfile.TemporaryDirectory(prefix="fade-audit-") as scratch:
        found = download_artifact(tracking, traced.run_id, "pictures", Path(scratch))
        if found is not None and (found / "before-after.png").is_file():
            shutil.copyfile(found / "before-after.png", report / "recorded.png")


def _link(
    content: dict[str, Any], verdict: Verdict, traced: Traced | None, checked: str, digest: str
) -> Audit:
    return Audit(
        number=0,
        by=content["by"],
        at=content["at"],
        version=content["version"],
        verdict=verdict.name,
        stage=verdict.stage,
        control=checked,
        adapter_sha256=str(traced.lineage.content["outputs"]["adapter_sha256"]) if traced else "",
        lineage_sha256=traced.lineage.sha256() if traced else "",
        report_sha256=digest,
    )


def _metrics(again: Repeated | None) -> dict[str, float]:
    metrics = again.lineage.content["outputs"].get("metrics") or {} if again else {}
    return {name: float(value) for name, value in metrics.items() if value is not None}


def _command(label: str, evidence_only: bool) -> str:
    return f"fade audit {label}{' --evidence-only' if evidence_only else ''}"
