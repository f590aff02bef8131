"""Make a run again, with a control, and compare: the recorded parameters and threads, the code in a folder of
its own, a registry of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from fade.config import Params
from fade.data.vocabulary import TOGETHER
from fade.errors import AuditError, BaseModelError, FadeError, RegistryUnreachableError, StorageError
from fade.governance import audit
from fade.governance.audit import DIFFERENT, MISSING, STAGE, TRAIN, Verdict, same_weights
from fade.models.hub import TRACKED
from fade.models.layout import resolve
from fade.provenance.lineage import FILE, REPOSITORY, Lineage
from fade.run.resolve_params import ERASER_SECTIONS, read_params
from fade.run.worlds import other_world
from fade.utils import progress
from fade.utils.files import make_folder, read_json
from tasks.launch.git_worktree import checkout, has_commit
from tasks.launch.process_group import Group
from tasks.launch.watchdog import Watchdog
from tasks.registry.runs import flatten
from tasks.registry.trust import Trust
from tasks.registry.versions import ADAPTER

SEED_STEP = 1
"""The control's training seed is the recorded one plus this."""
CONTROL = ("evaluate.images_per_concept=2", "evaluate.rest_concepts=1", "evaluate.bootstrap=50")
"""A control is compared by its weights: its metrics are not read."""
FOREIGN = ("MLFLOW_", "PREFECT_", "FADE_", "GIT_", "OMP_NUM_THREADS", "PYTHONPATH", "PYTHONHOME")
"""Environment variables that would lead a replay to the team's registry, or to other code or another
repository."""


@dataclass(frozen=True)
class Replay:
    """The result of a replayed run."""

    lineage: Lineage
    folder: Path
    """Its adapter and its evidence."""


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

    @property
    def trust(self) -> Trust:
        """What the registry is verified against and signed by."""
        return Trust.of(self.params.signing, self.root)


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
    if missing := missing_model(record, options.repository):
        return AuditOutcome(Verdict(MISSING, missing))
    try:
        replay, control = _replays(record, folder / "runs", options)
    except (RegistryUnreachableError, StorageError):
        raise
    except FadeError as error:
        world = other_world(options.params, record.content, options.root)
        pull = f"`fade pull --world {world}` shows whether it can still be had"
        where = f" Its data is that of the world {world!r}: {pull}." if world else ""
        return AuditOutcome(Verdict(MISSING, f"{error.what}{where}"))
    _, header_only = same_weights(adapter, replay.folder / ADAPTER)
    verdict = audit.compare_lineages(record, replay.lineage, header_only=header_only)
    if verdict.name == DIFFERENT and code["dirty"]:
        why = f"the code: the run was made from a tree with uncommitted changes; {verdict}"
        verdict = replace(verdict, name=MISSING, stage=why, note="")
    if control is None:
        return AuditOutcome(verdict, replay)
    same, _ = same_weights(replay.folder / ADAPTER, control.folder / ADAPTER)
    compared = audit.compare_control(replay.lineage, control.lineage, same_weights=same)
    if (compared.name, compared.stage) != (DIFFERENT, TRAIN):  # this audit's comparison detects nothing
        same_control = f"the control, of another seed, came out {compared.name}"
        why = f"{same_control}: this audit cannot tell two trainings apart"
        verdict = replace(verdict, name=MISSING, stage=why, note="")
    return AuditOutcome(verdict, replay, compared.name)


def missing_model(record: Lineage, repository: Path) -> str:
    """The first model of a run that cannot be had any more, with the next action; empty when all can.

    What .dvc files track is pulled by the replay; a hub id is fetched here, as the replay would."""
    data = record.content["params"]["values"].get("data", {})
    for name, kind in {"base": "base", "clip": "clip", "judge": "judge", "second_judge": "judge"}.items():
        where = str(data.get(name) or "data/")
        if where.startswith(TRACKED):
            continue
        try:
            resolve(str(repository / where) if where.startswith(".") else where, kind)
        except BaseModelError as error:
            sha256 = record.content.get(name, {}).get("sha256")
            of = f" of sha256 {sha256}" if sha256 else ""
            hub = where.count("/") == 1 and not where.startswith((".", "/"))
            offline = " (or HF_HUB_OFFLINE=0, where the hub may be asked)" if hub else ""
            why = f"the {name}: {error.what.removesuffix('.')}"
            return f"{why}. Next: put the directory{of} back as {where}{offline}, and audit again"
    return ""


def _replays(record: Lineage, runs: Path, options: AuditOptions) -> tuple[Replay, Replay | None]:
    """The replay, and the control's unless the options leave it out."""
    deadline = options.params.audit.deadline_seconds
    with checkout(str(record.content["code"]["commit"]), options.repository) as tree:
        replay = replay_run(record, tree, runs, deadline)
        if not options.with_control:
            return replay, None
        seed = int(record.content["seeds"]["train"]) + SEED_STEP
        control = [*CONTROL, f"train.seed={seed}"]
        # so few pictures say nothing of the base; code of before this key does not know it
        if "base_known" in record.content["params"]["values"].get("evaluate", {}):
            control.append("evaluate.base_known=0")
        return replay, replay_run(record, tree, runs, deadline, control=control)


def replay_run(
    record: Lineage, tree: Path, runs: Path, deadline: float, control: Sequence[str] = ()
) -> Replay:
    """Run the record's target with the code in ``tree``; everything is written under ``runs``.

    control: parameters other than recorded. Raises AuditError with the run's last line when it fails;
    TrainingError when ``deadline`` (seconds) passes."""
    make_folder(runs)
    before, log = set(_results(runs)), runs / ("control.log" if control else "audit.log")
    log.unlink(missing_ok=True)

    def tick() -> None:
        if log.exists() and log.stat().st_size:
            progress.report(f"{STAGE} {'control' if control else 're-run'}", 0, 0, last_message(log))

    with closing(Watchdog()) as watchdog:  # a kill -9 of the audit ends the replay, too
        environment = replay_environment(record, tree)
        group = Group(replay_command(record, tree, runs, control), log=log, env=environment, cwd=tree)
        watchdog.watch(group.pid)
        status = group.wait(deadline, tick, STAGE)
    if status != 0:
        what = f"the run could not be made again: {last_message(log)}"
        raise AuditError(what, stage=STAGE, action=f"see {log}.")
    results = [path.parent for path in _results(runs) if path not in before]
    if len(results) != 1:
        what = f"the re-run left {len(results)} results in {runs}."
        raise AuditError(what, stage=STAGE, action="audit again into an empty folder.")
    return Replay(Lineage.load(results[0] / FILE), results[0])


def replay_command(record: Lineage, tree: Path, runs: Path, overrides: Sequence[str] = ()) -> list[str]:
    """``fade run`` with every recorded parameter that the code's own params.yaml does not give, see
    `changed_params`."""
    names = str(record.content["neighbourhood"]["target"]).split(TOGETHER)
    targets = [part for name in names for part in ("--target", name)]
    file = read_params(tree / "params.yaml")
    params = changed_params(record.content["params"]["values"], file)
    # A replay registers in the audit's own folder: the team's key is not needed, and not there.
    items = [f"{key}={_yaml_text(value)}" for key, value in {**params, "signing.private_key": ""}.items()]
    settings = [part for item in (*items, *overrides) for part in ("--set", item)]
    return [sys.executable, "-m", "flows.cli", "run", *targets, *settings, "--runs-dir", str(runs.absolute())]


def changed_params(recorded: Mapping[str, Any], file: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys whose recorded value is not the file's, and all keys of sections that a method sets
    itself."""
    file, own = flatten(file), tuple(f"{section}." for section in ERASER_SECTIONS)
    return {
        key: value
        for key, value in flatten(recorded).items()
        if key not in file or file[key] != value or key.startswith(own)
    }


def replay_environment(record: Lineage, tree: Path) -> dict[str, str]:
    """This process's environment without FOREIGN; with the recorded number of threads."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
    count = int(record.content["environment"]["torch_threads"])
    # Unset, a process takes its share of the cores, as runs usually do.
    threads = {} if count == len(os.sched_getaffinity(0)) else {"OMP_NUM_THREADS": str(count)}
    output = {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "160"}
    return {**inherited, **threads, **output, "PYTHONPATH": str(tree)}


def last_message(log: Path) -> str:
    """The last error that a run printed; without one its last line."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error ")]
    return (errors or lines or ["no output (killed?)."])[-1].removeprefix("error ")


def _results(runs: Path) -> list[Path]:
    return [path for path in sorted(runs.glob("erase/*/*/result.json")) if isinstance(read_json(path), dict)]


def _yaml_text(value: Any) -> str:
    """A value as `--set` reads it."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.strip().removesuffix("...").strip()
