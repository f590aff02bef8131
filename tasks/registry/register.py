"""Register (MLflow): one run with its evidence, and the adapter as a version whose tags say where it comes
from."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from fade.config import Params
from fade.data.manifest import MANIFEST, read_manifest
from fade.data.vocabulary import slug
from fade.errors import AdapterError, RegistryError, RegistryUnreachableError, StorageError
from fade.provenance.lineage import FILE as LINEAGE
from fade.provenance.lineage import Lineage
from fade.reporting.status_line import describe
from fade.run.resolve_params import parse_params
from fade.utils.files import write_whole
from fade.utils.hashing import fingerprint, sha256_of
from tasks.registry.card import FILE as CARD
from tasks.registry.signing import FILE as SIGNATURE
from tasks.registry.signing import sign
from tasks.registry.tracking import Run, Tracking, connect, ensure_model, faults, flat, hushed, open_run
from tasks.registry.versions import ADAPTER, IDENTITY, PARTS, find_version, model_name

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

PENDING = "pending_registration.json"
DONE = "registration.json"
EVIDENCE = ("report.html", "card.md", "lineage.json", "history.json", "evaluation.json", "pictures", "checks")
"""Of a run's folder, what is uploaded beside the adapter (as far as it is there)."""


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    name: str
    version: str
    run_id: str
    uri: str
    """``models:/NAME/VERSION``"""


def register(
    result: Mapping[str, Any],
    params: Params,
    lineage: Mapping[str, Any],
    run_dir: Path,
    *,
    runs: Path,
    root: Path = Path(),
    name: str = "",
    marks: Mapping[str, str] | None = None,
) -> Registered:
    """Record the run that lies in ``run_dir`` and register its adapter; the same adapter of the same run
    gives the same version.

    result: the evaluation's JSON. lineage: `Lineage.content`. runs: holds the embedded store
    (MLFLOW_TRACKING_URI wins). root: the project's folder, which the data's paths start from. name: another
    registered model than that of the target. marks: further tags of run and version (whose request it was); a
    version that was there before gets them, too. When the store does not answer or refuses, RegistryError is
    raised (RegistryUnreachableError: worth a retry), nothing in the folder is lost, and
    ``pending_registration.json`` beside the adapter lets `register_pending` do it later."""
    adapter = run_dir / ADAPTER
    if not adapter.is_file():
        raise AdapterError(
            f"{adapter} does not exist.", stage="register", action="train it first: `fade run`."
        )
    tags = lineage_tags(result, lineage, run_dir)
    if sha256_of(adapter) != tags["adapter_sha256"]:
        what = f"{adapter} has other bytes than its lineage says."
        raise AdapterError(
            what, stage="register", action="run it again; a changed adapter is not registered."
        )
    try:
        tracking = connect(runs, timeout=params.register_.timeout_seconds)
        done = _register(tracking, result, params, lineage, run_dir, tags, root, name, marks or {})
    except BaseException as error:  # Ctrl-C, too, must not cost the registration
        _keep_pending(
            run_dir, result, params, lineage, (runs, root), {"name": name, "marks": dict(marks or {})}, error
        )
        if isinstance(error, RegistryError | StorageError):
            error.action = f"{error.action} The adapter is kept; then `fade register {run_dir}`.".strip()
        raise
    _write(run_dir / DONE, {**asdict(done), "store": tracking.address})
    (run_dir / PENDING).unlink(missing_ok=True)
    return done


def register_pending(run_dir: Path, *, runs: Path | None = None) -> Registered:
    """Do a registration that failed before, from ``pending_registration.json``. ``runs``: another runs folder
    than then.

    Raises RegistryError when nothing is pending there, and whatever `register` raises.
    """
    path = run_dir / PENDING
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        result, values, lineage, old_runs = kept["result"], kept["params"], kept["lineage"], kept["runs"]
        root, more = Path(kept["root"]), {"name": str(kept.get("name", "")), "marks": kept.get("marks", {})}
    except FileNotFoundError:
        done = run_dir / DONE
        if done.is_file():
            found = json.loads(done.read_text(encoding="utf-8"))
            return Registered(found["name"], found["version"], found["run_id"], found["uri"])
        raise RegistryError(
            f"{run_dir} has no {PENDING}.",
            stage="register",
            action="name the folder of a run that is not registered.",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RegistryError(
            f"{path} cannot be read: {error}.", stage="register", action="run it again with `fade run`."
        ) from error
    return register(
        result,
        parse_params(values, str(path)),
        lineage,
        run_dir,
        runs=runs or Path(old_runs),
        root=root,
        **more,
    )


def lineage_tags(result: Mapping[str, Any], lineage: Mapping[str, Any], run_dir: Path) -> dict[str, str]:
    """The tags of the run and of the version: where the adapter comes from, as text."""
    parts = {PARTS: json.dumps(list(lineage["parts"]))} if "parts" in lineage else {}
    return {
        **parts,
        "target": str(result["target"]),
        "method": str(result["method"]),
        "seed": str(result["seed"]),
        "neighbours": json.dumps(list(result["neighbours"]), ensure_ascii=False),
        "data_md5": str(lineage["data"]["md5"]),
        "base_sha256": str(lineage["base"]["sha256"]),
        "adapter_sha256": str(lineage["outputs"]["adapter_sha256"]),
        "params_sha256": str(lineage["params"]["sha256"]),
        "commit": str(lineage["code"]["commit"] or "unknown"),
        "lineage_sha256": Lineage(lineage).sha256(),
        "run_key": run_dir.resolve().name,
        "evaluation_sha256": fingerprint(
            {key: result.get(key) for key in ("metrics", "base_metrics", "per_concept")}
        ),
    }


def _register(
    tracking: Tracking,
    result: Mapping[str, Any],
    params: Params,
    lineage: Mapping[str, Any],
    run_dir: Path,
    tags: dict[str, str],
    root: Path,
    name: str,
    marks: Mapping[str, str],
) -> Registered:
    name = name or model_name(params.register_.model_prefix, tags["target"])
    existing = find_version(tracking, name, tags)
    _close_attempts(tracking, params.register_.experiment, tags, str(existing.run_id) if existing else None)
    if existing is not None:
        mark(tracking, existing, marks)
        return Registered(
            name, str(existing.version), str(existing.run_id), f"models:/{name}/{existing.version}"
        )
    with open_run(
        tracking, params.register_.experiment, f"{tags['target']} {tags['run_key']}", {**tags, **marks}
    ) as run:
        run.log_params(flat(params.recorded()))
        for entry in _history(run_dir):
            step = int(entry["step"])
            run.log_metrics(
                step, {f"train.{k}": v for k, v in entry.items() if k != "step" and _is_number(v)}
            )
        run.log_metrics(0, _final_metrics(result))
        run.flush()
        _log_dataset(run, params, lineage, root)
        for part in EVIDENCE:
            if (run_dir / part).exists():
                run.log_file(run_dir / part, part if (run_dir / part).is_dir() else None)
        if params.signing.private_key:
            signed = {name: run_dir / name for name in (ADAPTER, LINEAGE)}
            run.log_file(sign(signed, root / params.signing.private_key, run_dir / SIGNATURE))
        model_id, source = _log_adapter(
            run, run_dir / ADAPTER, _base_reference(params.data.base, root), params, lineage, tags
        )
        version = _new_version(
            tracking, name, {**tags, **marks}, run.run_id, model_id, source, _card(run_dir)
        )
    return Registered(name, version, run.run_id, f"models:/{name}/{version}")


def mark(tracking: Tracking, version: ModelVersion, marks: Mapping[str, str]) -> None:
    """Give a version further tags."""
    with faults(tracking.address):
        for key, value in marks.items():
            if version.tags.get(key) != value:
                tracking.client.set_model_version_tag(version.name, version.version, key, value)


def _close_attempts(
    tracking: Tracking, experiment: str, tags: Mapping[str, str], registered: str | None
) -> None:
    """Close the MLflow runs that registrations of this very run left open when their server went away.

    The one that a version stands on is FINISHED, as it has all its evidence; any other is FAILED, so that
    nobody counts it twice."""
    with faults(tracking.address):
        found = tracking.client.get_experiment_by_name(experiment)
        if found is None:
            return
        asked = [f"tags.{key} = '{tags[key]}'" for key in IDENTITY]
        for run in tracking.client.search_runs([found.experiment_id], " and ".join(asked)):
            if run.info.status == "RUNNING":
                tracking.client.set_terminated(
                    run.info.run_id, "FINISHED" if run.info.run_id == registered else "FAILED"
                )


def _log_adapter(
    run: Run, adapter: Path, base: str, params: Params, lineage: Mapping[str, Any], tags: Mapping[str, str]
) -> tuple[str, str]:
    """Log the adapter as an mlflow.diffusers model; (model id, its artifacts' address)."""
    libraries = lineage["environment"]["libraries"]
    needed = ("diffusers", "transformers", "torch", "peft", "safetensors", "accelerate")
    with faults(run.tracking.address), hushed():
        import mlflow.diffusers

        # Left to itself log_model would put the model into the default experiment, whose artifacts lie in the
        # working directory.
        model = run.client.create_logged_model(
            run.experiment_id, name="adapter", source_run_id=run.run_id, tags=dict(tags)
        )
        mlflow.diffusers.log_model(
            str(adapter),
            base_model=base,
            name="adapter",
            model_id=model.model_id,
            run_id=run.run_id,
            signature=_signature(params),
            pip_requirements=[f"{name}=={libraries[name]}" for name in needed if libraries.get(name)],
            metadata={
                key: tags[key] for key in ("base_sha256", "adapter_sha256", "data_md5", "target", "method")
            },
        )
    return str(model.model_id), str(model.artifact_location)


def _signature(params: Params) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    # MLflow's own default draws at 512 px with guidance 7.5; the run's sampler is the one that was judged.
    sampler = params.sampler
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "prompt")]),
        outputs=Schema([ColSpec(DataType.binary, "image")]),
        params=ParamSchema(
            [
                ParamSpec("num_inference_steps", DataType.integer, sampler.steps),
                ParamSpec("guidance_scale", DataType.double, sampler.guidance_scale),
                ParamSpec("negative_prompt", DataType.string, sampler.negative_prompt),
            ]
        ),
    )


def _base_reference(base: str, root: Path) -> str:
    if root.resolve() != Path.cwd() and (root / base).is_dir():
        return str((root / base).resolve())
    # Without "./" mlflow.diffusers takes a relative directory for a hub id and asks the hub for its revision.
    return (
        f"./{base}"
        if Path(base).is_dir() and not Path(base).is_absolute() and not base.startswith(".")
        else base
    )


def _new_version(
    tracking: Tracking,
    name: str,
    tags: Mapping[str, str],
    run_id: str,
    model_id: str,
    source: str,
    description: str | None,
) -> str:
    about: dict[str, Any] = {"tags": {"target": tags["target"]}, "description": f"{tags['target']}, erased"}
    if PARTS in tags:  # the next release may be of other concepts
        about = {"description": "Releases: the champions of all concepts, added up."}
    with faults(tracking.address):
        ensure_model(tracking, name, **about)
        created = tracking.client.create_model_version(
            name, source, run_id, tags=dict(tags), model_id=model_id, description=description
        )
    return str(created.version)


def _card(run_dir: Path) -> str | None:
    """The version's description: the run's card, as far as MLflow has room for it."""
    file = run_dir / CARD
    return describe(file.read_text(encoding="utf-8")) if file.is_file() else None


def _final_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """The evaluation as flat metric names: ``A_er``, ``A_er.lo``, ``base.A_tar`` ...; what was not measured
    is left out."""
    values: dict[str, Any] = dict(result["metrics"])
    values |= {f"base.{k}": v for k, v in result["base_metrics"].items()}
    for prefix, intervals in (("", result.get("intervals", {})), ("base.", result.get("base_intervals", {}))):
        for key, interval in intervals.items():
            if interval:
                values |= {f"{prefix}{key}.lo": interval[0], f"{prefix}{key}.hi": interval[1]}
    consistency = result.get("spatial_consistency") or {}
    values |= {f"spatial_consistency.{k}": v for k, v in consistency.items() if k in {"mean", "lo", "hi"}}
    for block in ("target_probability", "clip_score", "frechet"):
        values |= {f"{block}.{k}": v for k, v in (result.get(block) or {}).items() if not k.startswith("n")}
    values |= {
        "null_drift": result.get("null_drift"),
        "A_indirect": (result.get("indirect") or {}).get("A_indirect"),
    }
    for concept, numbers in (result.get("parts") or {}).items():  # of a release
        values |= {f"{slug(concept)}.{k}": v for k, v in numbers["metrics"].items()}
        values |= {f"{slug(concept)}.alone.{k}": v for k, v in numbers["alone"].items()}
    return {k: float(v) for k, v in values.items() if _is_number(v)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _history(run_dir: Path) -> list[dict[str, Any]]:
    path = run_dir / "history.json"
    if not path.is_file():
        return []
    history: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return history


def _log_dataset(run: Run, params: Params, lineage: Mapping[str, Any], root: Path) -> None:
    manifest = params.data.images / MANIFEST
    frame = read_manifest(root / manifest)
    md5 = str(lineage["data"]["md5"])
    with faults(run.tracking.address), hushed():
        from mlflow.data.pandas_dataset import from_pandas
        from mlflow.entities import DatasetInput, InputTag

        # MLflow keeps 36 characters: a DVC md5 with ".dir" fits exactly.
        dataset = from_pandas(frame, source=str(manifest), name=params.data.images.name, digest=md5[:36])
        tags = {"mlflow.data.context": "training", "dvc.md5": md5, "dvc.file": str(params.data.dvc_file)}
        entry = DatasetInput(dataset._to_mlflow_entity(), [InputTag(k, v) for k, v in tags.items()])
        run.client.log_inputs(run.run_id, [entry])


def _keep_pending(
    run_dir: Path,
    result: Mapping[str, Any],
    params: Params,
    lineage: Mapping[str, Any],
    folders: tuple[Path, Path],
    more: Mapping[str, Any],
    error: BaseException,
) -> None:
    kept = {
        "reason": str(error) or type(error).__name__,
        "runs": str(folders[0].absolute()),
        "root": str(folders[1].absolute()),
        **more,
        "result": result,
        "params": params.model_dump(mode="json", by_alias=True),
        "lineage": lineage,
    }
    with contextlib.suppress(
        StorageError
    ):  # the disk that failed the registration may be this one; the first error is the one to tell
        _write(run_dir / PENDING, kept)


def _write(path: Path, value: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n", stage="register")


def _worth_a_retry(_task: Any, _run: Any, state: Any) -> bool:
    return isinstance(state.data, RegistryUnreachableError)


register_task = task(
    name="register",
    retries=2,
    retry_delay_seconds=[1, 3],
    retry_condition_fn=_worth_a_retry,
    cache_policy=NO_CACHE,
)(register)
