"""Make a recorded run again: the recorded parameters, the recorded threads, the code in a folder of its own,
and no registry of ours."""

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
from fade.run.resolve_params import METHODS_OWN
from fade.utils.files import make_folder, read_json
from tasks.launch.process_group import run_group
from tasks.launch.watchdog import Watchdog
from tasks.registry.runs import flatten

STAGE = "audit"
FOREIGN = ("MLFLOW_", "PREFECT_", "FADE_", "OMP_NUM_THREADS", "PYTHONPATH", "PYTHONHOME")
"""What of this process's environment would lead the re-run astray: into the team's registry, or to other
code."""


@dataclass(frozen=True)
class Repeated:
    """A run that was made again."""

    lineage: Lineage
    folder: Path
    """Its adapter and its evidence."""


def rerun(
    record: Lineage,
    tree: Path,
    runs: Path,
    *,
    deadline: float,
    told: Callable[[str], None],
    asked: Sequence[str] = (),
) -> Repeated:
    """Run the record's target again with the code in ``tree``; everything lands under ``runs``.

    told: hears the run's own words. asked: what shall be otherwise than recorded (the control's seed). Raises
    AuditError with those words when it fails; TrainingError when ``deadline`` (seconds) passes.
    """
    make_folder(runs)
    before, log = set(_results(runs)), runs / ("control.log" if asked else "audit.log")
    log.unlink(missing_ok=True)
    line, env = command(record, tree, runs, asked), environment(record, tree)
    keeper = Watchdog()  # an audit that is killed by -9 takes its re-run with it
    try:
        status = run_group(
            line,
            deadline=deadline,
            log=log,
            env=env,
            tick=_listen(log, told),
            stage=STAGE,
            cwd=tree,
            started=keeper.watch,
        )
    finally:
        keeper.close()
    if status != 0:
        raise AuditError(
            f"the run could not be made again: {last_words(log)}", stage=STAGE, action=f"see {log}."
        )
    made = [path.parent for path in _results(runs) if path not in before]
    if len(made) != 1:
        raise AuditError(
            f"the re-run left {len(made)} results in {runs}.",
            stage=STAGE,
            action="audit again into an empty folder.",
        )
    return Repeated(Lineage.load(made[0] / FILE), made[0])


def command(record: Lineage, tree: Path, runs: Path, asked: Sequence[str] = ()) -> list[str]:
    """``fade run`` with everything that the record's parameters have otherwise than the code's own
    params.yaml; see `changed`."""
    targets = [
        part
        for name in str(record.content["neighbourhood"]["target"]).split(TOGETHER)
        for part in ("--target", name)
    ]
    recorded = changed(
        record.content["params"]["values"],
        read_yaml((tree / "params.yaml").read_text(encoding="utf-8")) or {},
    )
    # The re-run is registered in the audit's own folder; the team's key is neither needed nor there.
    own = [f"{key}={_text(value)}" for key, value in {**recorded, "signing.private_key": ""}.items()]
    settings = [part for item in (*own, *asked) for part in ("--set", item)]
    return [sys.executable, "-m", "flows.cli", "run", *targets, *settings, "--runs-dir", str(runs.absolute())]


def changed(recorded: Mapping[str, Any], file: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys whose recorded value is not the file's, and those that the method may set itself, whatever
    the file says."""
    there = flatten(file)
    own = tuple(f"{section}." for section in METHODS_OWN)
    return {
        key: value
        for key, value in flatten(recorded).items()
        if key not in there or there[key] != value or key.startswith(own)
    }


def environment(record: Lineage, tree: Path) -> dict[str, str]:
    """This process's environment without what leads astray; as many threads as were recorded."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
    threads = int(record.content["environment"]["torch_threads"])
    # Unset, every process takes its share of the cores; that is how a run is usually started.
    own = {} if threads == len(os.sched_getaffinity(0)) else {"OMP_NUM_THREADS": str(threads)}
    return {
        **clean,
        **own,
        "PYTHONPATH": str(tree),
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        "COLUMNS": "160",
    }


def last_words(log: Path) -> str:
    """The last line that a run wrote, its error in the usual case."""
    lines = (
        [
            line.strip()
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
            if line.strip()
        ]
        if log.exists()
        else []
    )
    errors = [line for line in lines if line.startswith("error ")]
    return (errors or lines or ["it said nothing (killed?)."])[-1].removeprefix("error ")


def _listen(log: Path, told: Callable[[str], None]) -> Callable[[], None]:
    seen = 0

    def tick() -> None:
        nonlocal seen
        if log.exists() and log.stat().st_size != seen:
            seen = log.stat().st_size
            told(last_words(log))

    return tick


def _results(runs: Path) -> list[Path]:
    return [path for path in sorted(runs.glob("erase/*/*/result.json")) if isinstance(read_json(path), dict)]


def _text(value: Any) -> str:
    """A value as `--set` reads it."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
        .strip()
        .removesuffix("...")
        .strip()
    )
