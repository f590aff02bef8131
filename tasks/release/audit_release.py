"""Build a release again from its parts, with a control, and compare the bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fade.errors import BaseModelError, ConfigError, DataError
from fade.governance.audit import DIFFERENT, IDENTICAL, MISSING, STAGE, Verdict, compare_build
from fade.provenance.lineage import Lineage, code_state, environment
from fade.run.context import RunContext
from fade.run.worlds import in_world, other_world
from fade.utils import progress
from fade.utils.files import make_folder
from tasks.registry.connection import Tracking
from tasks.release.build_release import rebuild_versions, recorded_settings
from tasks.release.replay import AuditOptions, AuditOutcome


def audit_release(tracking: Tracking, record: Lineage, folder: Path, options: AuditOptions) -> AuditOutcome:
    """Build a release from its parts, with the recorded number of threads, and as the control from all but
    the last one.

    A release is not evaluated: its parts have audits of their own, and what is built of them alone has the
    recorded bytes or not; so nothing of another champion is in it. Where the parts are of another world than
    the section `data` of now, its base is taken."""
    content, params = record.content, options.params
    try:
        if world := other_world(params, content, options.root):
            params = in_world(params, world, options.root)
        run = RunContext(params, "", options.runs, options.root)
        base = run.models.base
    except (BaseModelError, ConfigError, DataError) as error:
        return AuditOutcome(Verdict(MISSING, f"the base: {error}"))
    if not base.is_base(str(content["base"]["sha256"])):
        bases = f"{base.sha256} is here, {content['base']['sha256']} is asked for"
        return AuditOutcome(Verdict(MISSING, f"the base: {bases}"))
    labels = sorted(content["parts"], key=lambda label: str(label).rpartition("/")[0])  # the order of the sum
    settings = recorded_settings(content)
    computed = settings.config.mode != "sum" and len(labels) > 1

    def built_from(which: str, parts: list[str]) -> str:
        progress.report(f"{STAGE} {which}", 0, 0, " + ".join(parts))
        make_folder(folder / which)
        return rebuild_versions(tracking, run, parts, settings, folder / which)

    with _recorded_threads(content):
        sha256, now = built_from("again", labels), _circumstances(run, content)
        done = "built" if computed else "added up"
        note = f"{done} again from {', '.join(labels)}, which have audits of their own; not judged again"
        verdict = compare_build(record, sha256, now, computed=computed, note=note)
        if not options.with_control or len(labels) == 1:
            return AuditOutcome(verdict)
        control = built_from("control", labels[:-1])
    if control == sha256:
        why = "the control, a release without one part, came out the same: this audit cannot tell two apart"
        return AuditOutcome(Verdict(MISSING, why), control=IDENTICAL)
    return AuditOutcome(verdict, control=DIFFERENT)


@contextmanager
def _recorded_threads(content: Mapping[str, Any]) -> Iterator[None]:
    """Inside, torch has the threads of the release's build, on which its last bits depend."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(int(content["environment"]["torch_threads"]))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _circumstances(run: RunContext, content: Mapping[str, Any]) -> dict[str, Any]:
    """Code and environment of now; the number of processes is no part of a build."""
    base, recorded = run.models.base, content["environment"]
    precision = str(base.dtype).removeprefix("torch.")
    now = environment(device=str(base.device), precision=precision, world_size=recorded["world_size"])
    return {"code": code_state(), "environment": now}
