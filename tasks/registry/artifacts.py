"""Artifacts of an MLflow run: its data set, its adapter as a logged model, files that are fetched back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import Params
from fade.data.manifest import MANIFEST, read_manifest
from tasks.registry.connection import Tracking, registry_errors, suppress_warnings
from tasks.registry.runs import Run

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

LOGGED = "adapter_weights/pytorch_lora_weights.safetensors"
"""Where mlflow.diffusers puts the adapter inside a logged model."""
_REQUIREMENTS = ("diffusers", "transformers", "torch", "peft", "safetensors", "accelerate")
_METADATA = ("base_sha256", "adapter_sha256", "data_md5", "target", "method")


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
        facts = {"mlflow.data.context": "training", "dvc.md5": md5, "dvc.file": str(params.data.dvc_file)}
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
    relative = Path(base).is_dir() and not Path(base).is_absolute() and not base.startswith(".")
    return f"./{base}" if relative else base
