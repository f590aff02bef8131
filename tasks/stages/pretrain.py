"""Build and measure the embedded world; the trainings' losses go to MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from fade.config import Params, PretrainConfig, RegisterConfig
from fade.errors import RegistryError
from fade.utils import progress
from tasks.data.publish import publish
from tasks.registry.connection import connect
from tasks.registry.runs import flatten, open_run


@task(name="build", cache_policy=NO_CACHE)
def build_task(
    work: Path,
    family: str,
    parts: Path | None,
    config: PretrainConfig,
    runs: Path,
    registry: RegisterConfig,
) -> Path:
    """All stages of ``fade.pretrain.build``, each step's losses as metrics ``<stage>.<name>`` of one MLflow
    run."""
    from fade.pretrain.build import build

    tracking = connect(runs, timeout=registry.timeout_seconds)
    with open_run(tracking, "fade-pretrain", family, {"seed": str(config.seed)}) as run:
        run.log_params(flatten(config.model_dump(mode="json")))
        silent = False

        def on_step(stage: str, step: int, steps: int, logs: dict[str, float]) -> None:
            nonlocal silent
            text = "  ".join(f"{name} {value:.3g}" for name, value in logs.items())
            progress.report(stage, step, steps, text)
            if logs and not silent and (step % 25 == 0 or step == steps):
                try:
                    run.log_metrics(step, {f"{stage}.{name}": value for name, value in logs.items()})
                except RegistryError:  # a tracking server that dies must not cost two hours of training
                    silent = True

        return build(work, family, config, on_step, parts)


@task(name="measure", cache_policy=NO_CACHE)
def measure_task(params: Params, runs: Path, root: Path) -> dict[str, Any]:
    """The world's numbers: see ``fade.pretrain.measure``."""
    from fade.pretrain.measure import measure
    from fade.run.context import RunContext

    def on_progress(done: int, total: int) -> None:
        progress.report("measure", done, total, "the base's own pictures")

    return measure(RunContext(params, "", runs, root), on_progress)


publish_task = task(name="publish", cache_policy=NO_CACHE)(publish)
