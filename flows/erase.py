"""The main job: pull -> validate -> mine -> validate mined -> train -> evaluate -> register.

Every stage keeps what it made under the runs folder by content, so a flow that failed continues at the stage
that failed."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prefect import flow, runtime

from fade.config import Params
from fade.errors import DataError, RegistryError
from fade.provenance.lineage import Lineage, code_state, collect, hash_inputs
from fade.run.context import RunContext
from fade.run.resolve_params import parse_params
from fade.utils import progress
from fade.utils.files import make_folder, write_json, write_whole
from tasks.data.pull import pull_task
from tasks.data.validate import validate_data_task
from tasks.data.verdicts import VerdictStore
from tasks.registry.connection import connect
from tasks.registry.register import register_task
from tasks.requests.leases import Lease, confirm
from tasks.stages.evaluate import EvaluationResult, evaluate_task
from tasks.stages.mine import check_mined_task, mine_task
from tasks.stages.report import make_report
from tasks.stages.train import train_task


@flow(name="erase", validate_parameters=False)
def erase(
    target: str | Sequence[str],
    params: dict[str, Any],
    runs: str = "runs",
    root: str = ".",
    overrides: Sequence[str] = (),
    params_file: str = "params.yaml",
    request: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Erase a concept (or several together) and prove that the neighbours survived. Returns the summary that
    ``fade run --json`` prints.

    request: ``about`` (id, reason, by: for the record and the card), ``marks``, tags of the version, and
    ``lease``, without which nothing is registered (see `tasks.requests.worker`)."""
    settings = parse_params(params)
    run = RunContext(settings, target, Path(runs), Path(root))
    clock = Clock()
    with run.alone():
        with clock.stage("pull"):
            pulled = pull_task(settings.data, run.root, run.runs)
        with clock.stage("validate"):
            checked = validate_data_task(
                settings.data,
                settings.checks,
                out=run.home / "checks",
                root=run.root,
                names=run.labels(),
                store=VerdictStore(run.runs / "cache" / "checks"),
            )
            before = inputs(run)
        with clock.stage("mine"):
            neighborhood, looked = mine_task(run), run.encoder.seconds
            mined = check_mined_task(run, neighborhood)
            keep_checks(run)
        with clock.stage("train"):
            code = code_state()  # once: somebody may commit while the run goes on
            origin = {"data_md5": pulled.md5, "commit": str(code["commit"] or "unknown")}
            trained = train_task(run, neighborhood, origin)
        lineage = collect(
            settings,
            overrides=overrides,
            code=code,
            data_md5=pulled.md5,
            data_files=pulled.files,
            data_size=pulled.size,
            base_sha256=run.base.sha256,
            judge_sha256=run.judge.sha256,
            neighbourhood=neighborhood.to_json(),
            inputs=before,
            device=str(run.base.device),
            precision=trained.run["precision"],
            world_size=settings.train.processes,
            flow_run_id=str(runtime.flow_run.id or ""),
            training={**trained.run, "reused": trained.reused},
        )
        with clock.stage("evaluate"):
            evaluation = evaluate_task(run, neighborhood, trained.adapter)
            checks = {"data": checked.results, "neighbourhood": mined.results}
            outcome = {key: evaluation.numbers[key] for key in ("metrics", "base_metrics")}
            if request and request.get("about"):
                lineage = Lineage({**lineage.content, "request": request["about"]})
            lineage = finalize(lineage, before, inputs(run), trained.sha256, **outcome, checks=checks)
            lineage.save(run.folder / "lineage.json")
        with clock.stage("register"):
            command = reproduce(run.targets, overrides, params_file)
            report = make_report(
                run,
                neighborhood,
                evaluation,
                trained.history,
                (checked, mined),
                lineage.content,
                clock.seconds,
                command,
            )
            summary = summarise(run, evaluation, trained.sha256, pulled.md5, report.path)
            summary["warnings"] = [
                r["name"] for checks in (checked, mined) for r in checks.results if not r["success"]
            ]
            summary["warnings"] += [f"{name}: a target, hence no neighbour" for name in neighborhood.left_out]
            registered = register(run, settings, evaluation, lineage, request or {})
    version = {"model_name": registered.name, "model_version": registered.version}
    report.name(version, clock.seconds)
    spent = 0.0 if trained.reused else trained.run["seconds"]
    computing = {
        "pictures": run.generator.seconds,
        "features": looked,
        "training": spent,
        "judging": evaluation.seconds,
    }
    computing = {name: round(spent, 3) for name, spent in computing.items()}
    summary |= {**version, "seconds": clock.total(), "computing_seconds": computing}
    write_json(run.folder / "result.json", summary)
    return summary


def keep_checks(run: RunContext) -> None:
    """Copy the data checks, which are made before the run has a folder, to the evidence of this run."""
    make_folder(run.folder / "checks")
    for file in sorted((run.home / "checks").glob("data.*")):
        write_whole(run.folder / "checks" / file.name, file.read_bytes(), stage="validate")


def inputs(run: RunContext) -> dict[str, str]:
    """sha256 of everything that a run reads; taken before and after it."""
    data = run.params.data
    named = {"images": data.images, "base": data.base, "clip": data.clip, "judge": data.judge}
    local = {name: Path(run.local(str(where))) for name, where in named.items()}
    return hash_inputs({name: path for name, path in local.items() if path.exists()})


def finalize(
    lineage: Lineage, before: dict[str, str], after: dict[str, str], adapter_sha256: str, **outcome: Any
) -> Lineage:
    """Close the record; ``outcome``: see `Lineage.finish`. Raises DataError, see `unchanged`."""
    return unchanged(lineage.finish(after, adapter_sha256, **outcome))


def unchanged(closed: Lineage) -> Lineage:
    """Raises DataError when an input changed while the run went on: the evidence would be of nothing."""
    if changed := closed.changed_inputs():
        what = f"{', '.join(changed)} changed while the run went on."
        raise DataError(
            what, stage="evaluate", action="leave the data alone and run again; nothing was registered."
        )
    return closed


def register(
    run: RunContext,
    settings: Params,
    evaluation: EvaluationResult,
    lineage: Lineage,
    request: Mapping[str, Any],
) -> Any:
    """Register; when the registry is out of reach the adapter stays and the message says how to register it
    later.

    Raises RequestError, and registers nothing, when the request that the run is for was taken over by another
    worker."""
    progress.report("register", 0, 1, "MLflow")
    try:
        if lease := request.get("lease"):
            confirm(connect(run.runs, timeout=settings.register_.timeout_seconds), Lease(**lease))
        marks = request.get("marks")
        return register_task(
            evaluation.numbers,
            settings,
            lineage.content,
            run.folder,
            runs=run.runs,
            root=run.root,
            marks=marks,
        )
    except RegistryError as error:
        if not error.action:
            error.action = f"the adapter is kept; register it later with `fade register {run.folder}`."
        raise
    finally:
        progress.report("register", 1, 1, "MLflow")


def summarise(
    run: RunContext, evaluation: EvaluationResult, adapter_sha256: str, data_md5: str, report: Path
) -> dict[str, Any]:
    """The one object of ``fade run --json``, before the registry has answered."""
    numbers = evaluation.numbers
    picked = (
        "target",
        "targets",
        "method",
        "variant",
        "seed",
        "neighbours",
        "heldout",
        "metrics",
        "base_metrics",
        "intervals",
        "base_intervals",
        "n",
    )
    return {
        **{key: numbers[key] for key in picked},
        "confusion": numbers["confusion"],
        "spatial_consistency": numbers["spatial_consistency"],
        "null_drift": numbers["null_drift"],
        "adapter": str(run.folder / "adapter.safetensors"),
        "adapter_sha256": adapter_sha256,
        "data_md5": data_md5,
        "base_sha256": run.base.sha256,
        "params_sha256": run.params.sha256(),
        "report": str(report),
    }


def reproduce(targets: Sequence[str], overrides: Sequence[str], params_file: str = "params.yaml") -> str:
    """The command that makes the run again."""
    elsewhere = [] if params_file == "params.yaml" else ["--params", params_file]
    named = [part for target in targets for part in ("--target", target)]
    return shlex.join(
        ["fade", "run", *named, *elsewhere, *(part for item in overrides for part in ("--set", item))]
    )


class Clock:
    """Wall-clock seconds of each stage, and of everything since the process began."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, and say that it has begun."""
        progress.report(name, 0, 0)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + round(time.perf_counter() - start, 3)

    def total(self) -> dict[str, float]:
        """The stages and "total", which counts from the start of the process: imports and server included."""
        return {**self.seconds, "total": round(age(), 3)}


def age() -> float:
    """Seconds since this process began.

    psutil adds up to one, as it knows the time of the boot in whole seconds; the kernel's own count is taken
    where it agrees."""
    import psutil

    about = time.time() - psutil.Process().create_time()
    with suppress(OSError, AttributeError, ValueError, IndexError):  # not Linux, or not quite
        ticks = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
        exact = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        if 0 <= about - exact <= 1.1:
            return exact
    return about
