"""The lineage record of a run: opened before anything is computed, closed if its inputs did not change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import DataError
from fade.provenance.lineage import Lineage, code_state, collect, hash_inputs
from fade.run.context import RunContext

if TYPE_CHECKING:
    from fade.mining.neighborhood import Neighborhood
    from tasks.data.pull import Pulled
    from tasks.stages.evaluate import EvaluationResult
    from tasks.stages.train import Trained


class RunRecord:
    """What goes into a run: its inputs and its code, as they were when it began."""

    def __init__(self, run: RunContext, data: Pulled, overrides: Sequence[str], flow_run_id: str) -> None:
        self._run, self._data, self._overrides, self._flow_run_id = run, data, overrides, flow_run_id
        self._before = run_inputs(run)
        self._code = code_state()  # once: somebody may commit while the run goes on

    @property
    def origin(self) -> dict[str, str]:
        """What an adapter's header names of it."""
        return {"data_md5": self._data.md5, "commit": str(self._code["commit"] or "unknown")}

    def close(
        self,
        neighborhood: Neighborhood,
        trained: Trained,
        evaluation: EvaluationResult,
        checks: Mapping[str, Any],
        request: Mapping[str, Any] | None = None,
    ) -> Lineage:
        """The whole record, written to ``lineage.json`` in the run's folder. Raises DataError, see
        `require_unchanged`."""
        run = self._run
        record = open_record(
            run,
            neighborhood,
            overrides=self._overrides,
            code=self._code,
            data_md5=self._data.md5,
            data_files=self._data.files,
            data_size=self._data.size,
            dvc_files=self._data.dvc_files,
            inputs=self._before,
            precision=trained.run["precision"],
            world_size=run.params.train.processes,
            flow_run_id=self._flow_run_id,
            training={**trained.run, "reused": trained.reused},
        )
        if request:
            record = Lineage({**record.content, "request": dict(request)})
        metrics = {key: evaluation.numbers[key] for key in ("metrics", "base_metrics")}
        record = require_unchanged(record.finish(run_inputs(run), trained.sha256, **metrics, checks=checks))
        record.save(run.folder / "lineage.json")
        return record


def open_record(run: RunContext, neighborhood: Neighborhood, **more: Any) -> Lineage:
    """`fade.provenance.lineage.collect` with what a run holds: parameters, models, self-tests, neighbourhood
    and device. more: the other arguments of `collect`."""
    models = run.models
    return collect(
        run.params,
        base_sha256=models.base.sha256,
        judge_sha256=models.judge.sha256,
        models=models.record(),
        self_tests=models.self_tests.to_json(),
        neighbourhood=neighborhood.to_json(),
        device=str(models.base.device),
        **more,
    )


def run_inputs(run: RunContext) -> dict[str, str]:
    """sha256 of everything that a run reads; taken before and after it."""
    images = Path(run.models.local(str(run.params.data.images)))
    pictures = hash_inputs({"images": images} if images.exists() else {})
    return {**pictures, **run.models.inputs()}


def require_unchanged(closed: Lineage) -> Lineage:
    """Raises DataError when an input changed while the run went on: the evidence would be of nothing."""
    if changed := closed.changed_inputs():
        what = f"{', '.join(changed)} changed while the run went on."
        action = "leave the data alone and run again; nothing was registered."
        raise DataError(what, stage="evaluate", action=action)
    return closed
