"""Replay a recorded run: the recorded parameters and threads, the code in a folder of its own, and a registry
of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fade.config import read_yaml
from fade.data.vocabulary import TOGETHER
from fade.errors import AuditError
from fade.provenance.lineage import FILE, Lineage
from fade.run.resolve_params import ERASER_SECTIONS
from fade.utils.files import make_folder, read_json
from tasks.launch.process_group import Group
from tasks.launch.watchdog import Watchdog
from tasks.registry.runs import flatten

STAGE = "audit"
FOREIGN = ("MLFLOW_", "PREFECT_", "FADE_", "OMP_NUM_THREADS", "PYTHONPATH", "PYTHONHOME")
"""Environment variables that would lead a replay to the team's registry, or to other code."""


@dataclass(frozen=True)
class Replay:
    """The result of a replayed run."""

    lineage: Lineage
    folder: Path
    """Its adapter and its evidence."""


def replay_run(
    record: Lineage,
    tree: Path,
    runs: Path,
    *,
    deadline: float,
    on_progress: Callable[[str], None],
    overrides: Sequence[str] = (),
) -> Replay:
    """Run the record's target with the code in ``tree``; everything is written under ``runs``.

    on_progress: called with the last line of the run's output. overrides: parameters other than recorded (the
    control's seed). Raises AuditError with the run's last line when it fails; TrainingError when ``deadline``
    (seconds) passes.
    """
    make_folder(runs)
    before, log = set(_results(runs)), runs / ("control.log" if overrides else "audit.log")
    log.unlink(missing_ok=True)
    watchdog = Watchdog()  # a kill -9 of the audit ends the replay, too
    try:
        environment = replay_environment(record, tree)
        group = Group(replay_command(record, tree, runs, overrides), log=log, env=environment, cwd=tree)
        watchdog.watch(group.pid)
        status = group.wait(deadline, _log_listener(log, on_progress), STAGE)
    finally:
        watchdog.close()
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
    file = read_yaml((tree / "params.yaml").read_text(encoding="utf-8")) or {}
    params = changed_params(record.content["params"]["values"], file)
    # A replay registers in the audit's own folder: the team's key is not needed, and not there.
    items = [f"{key}={_yaml_text(value)}" for key, value in {**params, "signing.private_key": ""}.items()]
    settings = [part for item in (*items, *overrides) for part in ("--set", item)]
    return [sys.executable, "-m", "flows.cli", "run", *targets, *settings, "--runs-dir", str(runs.absolute())]


def changed_params(recorded: Mapping[str, Any], file: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys whose recorded value is not the file's, and all keys of sections that a method sets
    itself."""
    file = flatten(file)
    own = tuple(f"{section}." for section in ERASER_SECTIONS)
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
    return (errors or lines or ["it said nothing (killed?)."])[-1].removeprefix("error ")


def _log_listener(log: Path, on_progress: Callable[[str], None]) -> Callable[[], None]:
    """A function that calls ``on_progress`` when the log has grown since the last call."""
    size = 0

    def tick() -> None:
        nonlocal size
        if log.exists() and log.stat().st_size != size:
            size = log.stat().st_size
            on_progress(last_message(log))

    return tick


def _results(runs: Path) -> list[Path]:
    return [path for path in sorted(runs.glob("erase/*/*/result.json")) if isinstance(read_json(path), dict)]


def _yaml_text(value: Any) -> str:
    """A value as `--set` reads it."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.strip().removesuffix("...").strip()
