"""Register one run with its evidence, and the adapter as a version whose tags say where it comes from."""

from __future__ import annotations

import contextlib
import getpass
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import TypeAdapter

from fade.config import Params
from fade.errors import AdapterError, BusyError, RegistryError, RegistryUnreachableError, StorageError
from fade.governance.history import REGISTERED, VersionEvent, binding
from fade.governance.log_names import HISTORY
from fade.provenance.lineage import FILE as LINEAGE
from fade.provenance.lineage import Lineage
from fade.reporting.card import describe
from fade.utils.files import write_whole
from fade.utils.hashing import fingerprint, sha256_of
from tasks.registry import runs as mlflow_runs
from tasks.registry.card import FILE as CARD
from tasks.registry.connection import Tracking, connect, registry_errors
from tasks.registry.lineage import RECORDED
from tasks.registry.log_store import HISTORY_LOG
from tasks.registry.models import all_versions, ensure_model, model_name, set_tags
from tasks.registry.pending import DONE, PENDING, read_done, read_pending
from tasks.registry.runs import Run, log_adapter, log_dataset, open_run
from tasks.registry.signing import FILE as SIGNATURE
from tasks.registry.signing import sign
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.trust import Trust
from tasks.registry.versions import ADAPTER, PARTS, STAYS_OUT

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

STAGE = "register"
LONGEST_WHY = 200
"""Characters of the reason why a part stays out, in a tag; the record has it whole."""
IDENTITY = ("adapter_sha256", "params_sha256", "run_key", "evaluation_sha256")
"""Tags that make two registrations the same one."""
BOUND = (
    *("target", "method", "seed", "neighbours", "commit", "lineage_sha256", "run_key", "evaluation_sha256"),
    *(tag for tag, *_ in RECORDED.values()),
    PARTS,
    STAYS_OUT,
)
"""Tags of `_lineage_tags`."""
EVIDENCE = ("report.html", "card.md", "lineage.json", "history.json", "evaluation.json", "pictures", "checks")
"""Files and folders of a run's folder that are uploaded beside the adapter, as far as they exist."""


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    name: str
    version: str
    run_id: str
    uri: str
    """``models:/NAME/VERSION``"""


@dataclass(frozen=True)
class _Registration:
    """The arguments of `register`, and what ``pending_registration.json`` holds of them."""

    result: Mapping[str, Any]
    params: Params
    lineage: Mapping[str, Any]
    run_dir: Path
    runs: Path
    root: Path
    name: str = ""
    marks: Mapping[str, str] = field(default_factory=dict)


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
    model than that of the target. marks: further tags of run and version (whose request it was), also of a
    version that was there before. Raises RegistryError when the store does not answer or refuses
    (RegistryUnreachableError: worth a retry); ``pending_registration.json`` beside the adapter lets
    `register_pending` do it later."""
    adapter = run_dir / ADAPTER
    if not adapter.is_file():
        raise AdapterError(f"{adapter} does not exist.", stage=STAGE, action="train it first: `fade run`.")
    tags = _lineage_tags(result, lineage, run_dir)
    if sha256_of(adapter) != tags["adapter_sha256"]:
        what = f"{adapter} has other bytes than its lineage says."
        raise AdapterError(what, stage=STAGE, action="run it again; a changed adapter is not registered.")
    job = _Registration(result, params, lineage, run_dir, runs, root, name, marks or {})
    try:
        tracking = connect(runs, timeout=params.register_.timeout_seconds)
        done = _register(tracking, job, tags)
    except BaseException as error:  # Ctrl-C, too, must not cost the registration
        _write_pending(job, error)
        if isinstance(error, RegistryError | StorageError | BusyError):
            error.action = f"{error.action} The adapter is kept; then `fade register {run_dir}`.".strip()
        raise
    _write_json(run_dir / DONE, {**asdict(done), "store": tracking.address})
    (run_dir / PENDING).unlink(missing_ok=True)
    return done


def register_pending(run_dir: Path, *, runs: Path | None = None) -> Registered:
    """Do a registration that failed before, from ``pending_registration.json``. ``runs``: another runs folder
    than the run's own. Raises RegistryError when nothing is pending there, or a field of it is wrong, and
    whatever `register` raises."""
    if done := read_done(run_dir):
        return Registered(**done)
    job = read_pending(run_dir, _Registration)
    return register(**{**vars(job), "runs": runs or job.runs})


def _lineage_tags(result: Mapping[str, Any], lineage: Mapping[str, Any], run_dir: Path) -> dict[str, str]:
    """The tags of the run and of the version: where the adapter comes from, as text."""
    evaluation = {key: result.get(key) for key in ("metrics", "base_metrics", "per_concept")}
    return {
        **({PARTS: json.dumps(list(lineage["parts"]))} if "parts" in lineage else {}),
        **_stays_out(lineage),
        **{key: str(result[key]) for key in ("target", "method", "seed")},
        "neighbours": json.dumps(list(result["neighbours"]), ensure_ascii=False),
        **{tag: str(lineage[section][key]) for tag, section, key in RECORDED.values()},
        "commit": str(lineage["code"]["commit"] or "unknown"),
        "lineage_sha256": Lineage(lineage).sha256(),
        "run_key": run_dir.resolve().name,
        "evaluation_sha256": fingerprint(evaluation),
    }


def _stays_out(lineage: Mapping[str, Any]) -> dict[str, str]:
    """The tag of a release that its gate refused."""
    members = lineage.get("release", {}).get("stays_out", {}).get("members", [])
    why = {one["part"]: one["why"][:LONGEST_WHY] for one in members}
    return {STAYS_OUT: json.dumps(why, ensure_ascii=False)} if why else {}


def _register(tracking: Tracking, job: _Registration, tags: dict[str, str]) -> Registered:
    settings = job.params.register_
    name = job.name or model_name(settings.model_prefix, tags["target"])
    marked = {**tags, **job.marks}
    same = (one for one in all_versions(tracking, name) if all(one.tags.get(k) == tags[k] for k in IDENTITY))
    version = next(same, None)
    _close_attempts(tracking, settings.experiment, tags, str(version.run_id) if version else None)
    trust = Trust.of(job.params.signing, job.root)
    trust.require_signer(f"{name}: the registration")
    if version is None:
        with open_run(tracking, settings.experiment, f"{tags['target']} {tags['run_key']}", marked) as run:
            version = _create_version(run, job, name, marked, *_log_evidence(run, job, tags))
    else:
        set_tags(tracking, version, job.marks)
    # one that was there before the history has a record of its own: `fade keys adopt`
    if all(version.tags.get(key) == tags[key] for key in tags):
        bind(RegistrySnapshot.load_model(tracking, name, trust), version, tags)
    number = str(version.version)
    return Registered(name, number, str(version.run_id), f"models:/{name}/{number}")


def registered_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Those tags of a version that its registration binds; others are written later."""
    return {key: value for key, value in tags.items() if key in BOUND}


def bind(snapshot: RegistrySnapshot, version: ModelVersion, tags: Mapping[str, str]) -> bool:
    """Record the registration of a version, unless that was done; returns whether it was recorded now. tags:
    those that the version's are compared with from now on. Raises RegistryError, SignatureError."""
    name, number = str(version.name), str(version.version)
    if binding(snapshot.history(name), number):
        return False
    event = VersionEvent(
        number=0,
        by=getpass.getuser(),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        version=number,
        event=REGISTERED,
        content={"model": name, "tags": dict(tags)},
    )
    HISTORY_LOG.append_behind_all(
        snapshot.tracking, f"{name}{HISTORY}", event, about=version, trust=snapshot.trust
    )
    return True


def _log_evidence(run: Run, job: _Registration, tags: Mapping[str, str]) -> tuple[str, str]:
    """Everything that an MLflow run holds; returns (model id, address of the adapter's artifacts)."""
    folder, params = job.run_dir, job.params
    run.log_params(mlflow_runs.flatten(params.recorded()))
    mlflow_runs.log_history(run, folder / "history.json")
    run.log_metrics(0, mlflow_runs.final_metrics(job.result))
    run.flush()
    log_dataset(run, params, job.lineage, job.root)
    for part in EVIDENCE:
        if (folder / part).exists():
            run.log_file(folder / part, part if (folder / part).is_dir() else None)
    if params.signing.private_key:
        files = {name: folder / name for name in (ADAPTER, LINEAGE)}
        run.log_file(sign(files, job.root / params.signing.private_key, folder / SIGNATURE))
    libraries = job.lineage["environment"]["libraries"]
    return log_adapter(run, folder / ADAPTER, params, libraries, tags, job.root)


def _create_version(
    run: Run, job: _Registration, name: str, tags: Mapping[str, str], model_id: str, source: str
) -> ModelVersion:
    about: dict[str, Any] = {"tags": {"target": tags["target"]}, "description": f"{tags['target']}, erased"}
    if PARTS in tags:  # the next release may be of other concepts
        about = {"description": "Releases: the champions of all concepts in one adapter."}
    card = job.run_dir / CARD
    description = describe(card.read_text(encoding="utf-8")) if card.is_file() else None
    with registry_errors(run.tracking.address):
        ensure_model(run.tracking, name, **about)
        return run.client.create_model_version(
            name, source, run.run_id, tags=dict(tags), model_id=model_id, description=description
        )


def _close_attempts(
    tracking: Tracking, experiment: str, tags: Mapping[str, str], registered: str | None
) -> None:
    """Close the MLflow runs that registrations of this very run left open when their server went away: the
    registered one, which has all its evidence, as FINISHED, any other, which must not count, as FAILED."""
    with registry_errors(tracking.address):
        known = tracking.client.get_experiment_by_name(experiment)
        same_run = " and ".join(f"tags.{key} = '{tags[key]}'" for key in IDENTITY)
        for run in tracking.client.search_runs([known.experiment_id], same_run) if known else ():
            if run.info.status == "RUNNING":
                status = "FINISHED" if run.info.run_id == registered else "FAILED"
                tracking.client.set_terminated(run.info.run_id, status)


def _write_pending(job: _Registration, error: BaseException) -> None:
    job = replace(job, runs=job.runs.absolute(), root=job.root.absolute())
    values = TypeAdapter(_Registration).dump_python(job, mode="json", by_alias=True, exclude={"run_dir"})
    # the disk that failed the registration may be this one; the first error is raised
    with contextlib.suppress(StorageError):
        _write_json(job.run_dir / PENDING, {"reason": str(error) or type(error).__name__, **values})


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n", stage=STAGE)


def _worth_a_retry(_task: Any, _run: Any, state: Any) -> bool:
    return isinstance(state.data, RegistryUnreachableError)


_RETRY: dict[str, Any] = {"retries": 2, "retry_delay_seconds": [1, 3], "retry_condition_fn": _worth_a_retry}
register_task = task(name="register", cache_policy=NO_CACHE, **_RETRY)(register)
