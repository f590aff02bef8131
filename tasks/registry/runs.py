"""MLflow runs: opened, written in batches, closed with a status; their artifacts, logged and fetched back."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import Params
from fade.data.manifest import MANIFEST, read_manifest
from fade.data.vocabulary import slug
from fade.errors import RegistryError, RegistryUnreachableError
from fade.models.hub import is_hub_id
from fade.redact import redact
from tasks.registry.connection import Tracking, registry_errors, suppress_warnings
from tasks.registry.database_file import ARTIFACTS, STAGE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

LOGGED = "adapter_weights/pytorch_lora_weights.safetensors"
"""Where mlflow.diffusers puts the adapter inside a logged model."""
_REQUIREMENTS = ("diffusers", "transformers", "torch", "peft", "safetensors", "accelerate")
_METADATA = ("base_sha256", "adapter_sha256", "data_md5", "target", "method")
_BY_KIND = {
    "second_opinion": ("metrics", "base_metrics", "agreement"),
    "other_prompts": ("metrics", "base_metrics"),
}
"""Blocks of the evaluation's JSON with parts of several kinds, and what is recorded of each."""
FLUSH_METRICS, FLUSH_SECONDS = 500, 5.0
"""Metrics are sent when so many are pending, or after so long."""


@dataclass
class Run:
    """An open MLflow run; its methods raise RegistryUnreachableError, RegistryError or StorageError."""

    tracking: Tracking
    run_id: str
    experiment_id: str
    _pending: list[Any] = field(default_factory=list)
    _flushed: float = field(default_factory=time.monotonic)

    @property
    def client(self) -> MlflowClient:
        return self.tracking.client

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers of one step; MLflow has them after `flush` at the latest."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._pending += [Metric(key, float(value), now, step) for key, value in values.items()]
        if len(self._pending) >= FLUSH_METRICS or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what is pending."""
        with registry_errors(self.tracking.address):
            self.client.log_batch(self.run_id, metrics=self._pending)
        self._pending, self._flushed = [], time.monotonic()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record params (values as text without passwords, MLflow keeps at most 6000 characters)."""
        from mlflow.entities import Param

        entries = [Param(key, redact(str(value))[:6000]) for key, value in params.items()]
        with registry_errors(self.tracking.address):
            self.client.log_batch(self.run_id, params=entries)

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Upload a file, or a folder's content, as an artifact."""
        upload = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        with registry_errors(self.tracking.address):
            upload(self.run_id, str(path), folder)


@contextlib.contextmanager
def open_run(
    tracking: Tracking, experiment: str, name: str, tags: Mapping[str, Any] | None = None
) -> Iterator[Run]:
    """A run in ``experiment`` (made when missing) that ends as FINISHED, or as FAILED when the body raises.
    Raises RegistryUnreachableError or RegistryError for MLflow's own failures."""
    text = {key: redact(str(value)) for key, value in (tags or {}).items()}
    with registry_errors(tracking.address):
        experiment_id = _experiment_id(tracking, experiment)
        created = tracking.client.create_run(experiment_id, run_name=name, tags=text)
    run = Run(tracking, created.info.run_id, experiment_id)
    try:
        yield run
        run.flush()
        with registry_errors(tracking.address):
            tracking.client.set_terminated(run.run_id, "FINISHED")
    except RegistryUnreachableError:
        raise  # setting a status on a dead server would only double the wait
    except BaseException:
        with contextlib.suppress(Exception):
            run.flush()
            tracking.client.set_terminated(run.run_id, "FAILED")
        raise


def _experiment_id(tracking: Tracking, name: str) -> str:
    from mlflow.entities import LifecycleStage
    from mlflow.exceptions import MlflowException

    experiment = tracking.client.get_experiment_by_name(name)
    if experiment is None:
        # MLflow's default for local stores is ./mlartifacts or ./mlruns of the process's working directory.
        location = (tracking.runs.absolute() / ARTIFACTS).as_uri() if tracking.local else None
        try:
            return str(tracking.client.create_experiment(name, artifact_location=location))
        except MlflowException:
            experiment = tracking.client.get_experiment_by_name(name)  # another process was faster
            if experiment is None:
                raise
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        what = f"the experiment {name!r} was deleted in {tracking.address}."
        action = "restore it, or choose another with --set register.experiment=NAME."
        raise RegistryError(what, stage=STAGE, action=action)
    return str(experiment.experiment_id)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys: ``{"train": {"lr": 1}}`` -> ``{"train.lr": 1}``."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        out.update(flatten(value, name) if isinstance(value, Mapping) else {name: value})
    return out


def log_history(run: Run, history: Path) -> None:
    """Record the training's ``history.json``, if there is one, as metrics ``train.*``, a step each entry."""
    for entry in json.loads(history.read_text(encoding="utf-8")) if history.is_file() else ():
        step = int(entry.pop("step"))
        run.log_metrics(step, {f"train.{key}": value for key, value in entry.items() if _is_number(value)})


def final_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """The evaluation's JSON as flat metric names: ``A_er``, ``A_er.lo``, ``base.A_tar`` ...; what was not
    measured is left out."""
    blocks = {
        name: {key: value for key, value in (result.get(name) or {}).items() if not key.startswith("n")}
        for name in ("spatial_consistency", "target_probability", "clip_score", "frechet")  # without counts
    }
    parts = {  # of a release
        slug(concept): {**numbers["metrics"], "alone": numbers["alone"]}
        for concept, numbers in (result.get("parts") or {}).items()
    }
    values = flatten({**result["metrics"], "base": result["base_metrics"], **blocks, **parts})
    for name, keys in _BY_KIND.items():
        for kind, one in (result.get(name) or {}).items():
            values |= flatten({name: {kind: {key: one.get(key) or {} for key in keys}}})
    apart = {group: one["erased"] for group, one in (result.get("kept") or {}).items()}
    values |= flatten({"A_kept": apart})  # of a release: what must stay, used and only measured
    realism = result.get("realism") or {}
    values |= flatten(
        {"realism": {key: realism.get(key) or {} for key in ("distance", "share", "confidence")}}
    )
    values["null_drift"] = result.get("null_drift")
    values["A_indirect"] = (result.get("indirect") or {}).get("A_indirect")
    for prefix, intervals in (("", "intervals"), ("base.", "base_intervals")):
        for key, interval in result.get(intervals, {}).items():
            if interval:
                values |= {f"{prefix}{key}.lo": interval[0], f"{prefix}{key}.hi": interval[1]}
    return {key: float(value) for key, value in values.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def log_dataset(run: Run, params: Params, lineage: Mapping[str, Any], root: Path) -> None:
    """Record the data set as the run's input, with its DVC md5. root: the project's folder."""
    manifest = params.data.images / MANIFEST
    frame = read_manifest(root / manifest)
    md5 = str(lineage["data"]["md5"])
    with registry_errors(run.tracking.address), suppress_warnings():
        from mlflow.data.pandas_dataset import from_pandas
        from mlflow.entities import DatasetInput, InputTag

        # MLflow keeps 36 characters: a DVC md5 with ".dir" fits exactly.
        dataset = from_pandas(frame, source=str(manifest), name=params.data.images.name, digest=md5[:36])
        files = ", ".join(map(str, params.data.dvc_files)) or "none"
        facts = {"mlflow.data.context": "training", "dvc.md5": md5, "dvc.file": files}
        tags = [InputTag(key, value) for key, value in facts.items()]
        run.client.log_inputs(run.run_id, [DatasetInput(dataset._to_mlflow_entity(), tags)])


def log_adapter(
    run: Run, adapter: Path, params: Params, libraries: Mapping[str, str], tags: Mapping[str, str], root: Path
) -> tuple[str, str]:
    """Log the adapter as an mlflow.diffusers model; returns (model id, address of its artifacts)."""
    with registry_errors(run.tracking.address), suppress_warnings():
        import mlflow.diffusers

        # log_model alone would put the model into the default experiment, whose artifacts lie in the working
        # directory.
        model = run.client.create_logged_model(
            run.experiment_id, name="adapter", source_run_id=run.run_id, tags=dict(tags)
        )
        mlflow.diffusers.log_model(
            str(adapter),
            base_model=_base_reference(params.data.base, root),
            name="adapter",
            model_id=model.model_id,
            run_id=run.run_id,
            signature=_model_signature(params),
            pip_requirements=[f"{name}=={libraries[name]}" for name in _REQUIREMENTS if libraries.get(name)],
            metadata={key: tags[key] for key in _METADATA},
        )
    return str(model.model_id), str(model.artifact_location)


def download_artifact(tracking: Tracking, run_id: str, name: str, folder: Path) -> Path | None:
    """The run's artifact ``name``, fetched into ``folder``, or None. Raises RegistryError."""
    with registry_errors(tracking.address), suppress_warnings():
        if name not in {file.path for file in tracking.client.list_artifacts(run_id)}:
            return None
    return _download(tracking, f"runs:/{run_id}/{name}", folder)


def download_adapter(tracking: Tracking, version: ModelVersion, folder: Path) -> Path:
    """The registered adapter of a version, fetched into ``folder``. Raises RegistryError."""
    return _download(tracking, f"models:/{version.name}/{version.version}/{LOGGED}", folder)


def _download(tracking: Tracking, uri: str, folder: Path) -> Path:
    with registry_errors(tracking.address), suppress_warnings():
        import mlflow

        path = mlflow.artifacts.download_artifacts(uri, dst_path=str(folder), tracking_uri=tracking.uri)
    return Path(path)


def _model_signature(params: Params) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    # MLflow's own default samples at 512 px with guidance 7.5; the run's sampler is the evaluated one.
    sampler = params.sampler
    settings = [
        ParamSpec("num_inference_steps", DataType.integer, sampler.steps),
        ParamSpec("guidance_scale", DataType.double, sampler.guidance_scale),
        ParamSpec("negative_prompt", DataType.string, sampler.negative_prompt),
    ]
    prompt, image = ColSpec(DataType.string, "prompt"), ColSpec(DataType.binary, "image")
    return ModelSignature(Schema([prompt]), Schema([image]), ParamSchema(settings))


def _base_reference(base: str, root: Path) -> str:
    if root.resolve() != Path.cwd() and (root / base).is_dir():
        return str((root / base).resolve())
    # Without "./" mlflow.diffusers takes a relative directory for a hub id and asks the hub for its revision.
    base = base.partition("@")[0] if is_hub_id(base) else base  # MLflow takes no revision
    relative = Path(base).exists() and not Path(base).is_absolute() and not base.startswith(".")
    return f"./{base}" if relative else base
