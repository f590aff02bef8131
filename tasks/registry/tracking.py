"""What every use of MLflow shares: where it records, how long it waits, and a run that is written in
batches."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from fade.errors import RegistryError, RegistryUnreachableError, StorageError
from tasks.launch.environment import configure_environment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

STAGE = "register"
DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
BATCH = 500
"""Metrics a request; MLflow's own limit is 1000."""
PARAMS_BATCH = 100
"""Params or tags a request, MLflow's limit."""
FLUSH_SECONDS = 5.0
RETRY = "mend that."
START = "start the server, or unset MLFLOW_TRACKING_URI to record under the runs folder."

# set_tracking_uri also writes MLFLOW_TRACKING_URI into the environment (for subprocesses). Without this
# memory a second runs folder in the same process would take the first one's embedded address for the user's
# wish.
_embedded: set[str] = set()


@dataclass(frozen=True)
class Tracking:
    """A store that answered."""

    uri: str
    """As MLflow uses it; may hold a password. Show `address` instead."""
    client: MlflowClient
    runs: Path

    @property
    def address(self) -> str:
        return redacted(self.uri)

    @property
    def local(self) -> bool:
        """A database file of this machine: its artifacts lie under the runs folder."""
        return urlsplit(self.uri).scheme in {"sqlite", "file"}


def connect(runs: Path, *, timeout: float = 60.0) -> Tracking:
    """The tracking store: MLFLOW_TRACKING_URI when it is set, else sqlite at ``runs/mlflow.db``.

    Asks it one small question before any work is entrusted to it: an unreachable server is known after
    ``timeout / 12`` seconds. Raises RegistryUnreachableError, RegistryError (it answers, but with a refusal),
    or StorageError (runs cannot be written)."""
    configure_environment(runs, hub=True)
    uri = _uri(runs)
    _prepare(runs, uri, timeout)
    with hushed():
        _found(uri, timeout)
        client = _ask(uri, timeout)
    # A server that dies later: one retry of a third of the time each, so the whole still ends within the
    # timeout.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, int(timeout / 3))))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    return Tracking(uri, client, runs)


def _found(uri: str, timeout: float) -> None:
    """Make a new sqlite database whole or not at all: half of MLflow's migrations, left by a Ctrl-C, could
    not be opened again."""
    if not uri.startswith("sqlite:////") or (file := Path(urlsplit(uri).path[1:])).exists():
        return
    fresh = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        _ask(f"sqlite:///{fresh.as_posix()}", timeout)
        with contextlib.suppress(FileExistsError):  # another run was faster
            os.link(fresh, file)
    finally:
        fresh.unlink(missing_ok=True)


def _ask(uri: str, timeout: float) -> MlflowClient:
    import mlflow
    from mlflow import MlflowClient

    address = redacted(uri)
    with (
        _environment(
            MLFLOW_HTTP_REQUEST_TIMEOUT=str(max(1, int(timeout / 12))), MLFLOW_HTTP_REQUEST_MAX_RETRIES="0"
        ),
        faults(address),
    ):
        mlflow.set_tracking_uri(uri)
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


def _uri(runs: Path) -> str:
    wanted = os.environ.get("MLFLOW_TRACKING_URI", "")
    if wanted and wanted not in _embedded:
        return wanted
    uri = f"sqlite:///{(runs.absolute() / DATABASE).as_posix()}"
    _embedded.add(uri)
    return uri


def _prepare(runs: Path, uri: str, timeout: float) -> None:
    """Find out cheaply what MLflow would find out with ten retries of growing length."""
    import socket

    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        folder = (
            Path(parts.path[1:]).parent
            if uri.startswith("sqlite:////")
            else Path(parts.path.lstrip("/")).parent
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            runs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{folder} cannot be made: {error.strerror}.",
                stage=STAGE,
                action="name another with --runs-dir.",
            ) from error
        if not os.access(folder, os.W_OK):
            raise StorageError(
                f"{folder} cannot be written.", stage=STAGE, action="name another with --runs-dir."
            )
        file = folder / Path(parts.path).name
        if file.is_file() and file.stat().st_size and not _is_sqlite(file):
            raise RegistryError(
                f"{file} is no sqlite database.", stage=STAGE, action="move it away; a new one will be made."
            )
    elif (
        parts.hostname and not parts.scheme.startswith("http") and parts.port
    ):  # a database server; HTTP may go through a proxy
        try:
            socket.create_connection((parts.hostname, parts.port), timeout=max(1.0, timeout / 12)).close()
        except OSError as error:
            raise RegistryUnreachableError(
                f"{redacted(uri)} does not answer: {error}.", stage=STAGE, action=START
            ) from error


def _is_sqlite(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(16) == b"SQLite format 3\0"


def redacted(uri: str) -> str:
    """An address without its user name, password and query."""
    parts = urlsplit(uri)
    if not parts.netloc:
        return uri
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Without the warnings that MLflow raises about its own code and its own libraries, on import and on
    use."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, UserWarning):
            warnings.simplefilter("ignore", category)
        yield


def all_versions(tracking: Tracking, name: str | None = None) -> list[ModelVersion]:
    """Every version of the model ``name``, or of all models, newest first; empty when there is none."""
    found: list[ModelVersion] = []
    token: str | None = None
    with faults(tracking.address):
        while True:
            page = tracking.client.search_model_versions(name and f"name = '{name}'", page_token=token)
            found += page
            token = page.token
            if not token:
                return sorted(found, key=lambda v: (-int(v.version), v.name))


def download(tracking: Tracking, run_id: str, name: str, folder: Path) -> Path | None:
    """The run's artifact ``name``, fetched into ``folder``; None when the run has none. Raises
    RegistryError."""
    with faults(tracking.address), hushed():
        if name not in {file.path for file in tracking.client.list_artifacts(run_id)}:
            return None
        import mlflow

        where = f"runs:/{run_id}/{name}"
        return Path(
            mlflow.artifacts.download_artifacts(where, dst_path=str(folder), tracking_uri=tracking.uri)
        )


def ensure_model(tracking: Tracking, name: str, **facts: Any) -> None:
    """Register the model ``name``, unless it is there. MLflow's exceptions are the caller's (see
    `faults`)."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

    try:
        tracking.client.create_registered_model(name, **facts)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


@contextlib.contextmanager
def faults(address: str) -> Iterator[None]:
    """MLflow's exceptions as ours: RegistryUnreachableError for a connection fault, RegistryError for all
    others."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, requests.RequestException, SQLAlchemyError, OSError) as error:
        if isinstance(error, OSError) and error.errno in {
            errno.ENOSPC,
            errno.EACCES,
            errno.EROFS,
            errno.EDQUOT,
        }:
            raise StorageError(
                f"{error.filename or address}: {error.strerror}.", stage=STAGE, action=RETRY
            ) from error
        reason = re.sub(r"//[^/@\s]+@", "//", " ".join(str(error).split()))[:300]  # no password in a message
        if _is_connection_fault(error):
            raise RegistryUnreachableError(
                f"{address} does not answer ({type(error).__name__}).", stage=STAGE, action=START
            ) from error
        if (status := _status(error)) in _LOGIN:
            what, action = _LOGIN[status]
            raise RegistryError(f"{address} {what} ({status}).", stage=STAGE, action=action) from error
        raise RegistryError(f"{address} refused: {reason}", stage=STAGE, action=RETRY) from error


_LOGIN = {
    401: ("does not know us", "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."),
    403: (
        "does not let us do that",
        "ask whoever runs the server for the permission, or log in as another user.",
    ),
}


def _status(error: BaseException) -> int | None:
    """The HTTP status that the server refused with, as far as MLflow tells."""
    response = getattr(error, "response", None)
    if response is not None:
        return int(response.status_code)
    found = re.search(r"failed with error code (\d{3}) ", str(error))
    return int(found[1]) if found else None


def _is_connection_fault(error: BaseException) -> bool:
    import requests

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, requests.ConnectionError | requests.Timeout | ConnectionError | TimeoutError):
            return True
        if (
            isinstance(seen, requests.HTTPError)
            and seen.response is not None
            and seen.response.status_code in {502, 503, 504}
        ):
            return True
        seen = seen.__cause__ or seen.__context__
    # MLflow wraps an exhausted retry in a text
    return "Max retries exceeded" in str(error) or "too many 50" in str(error)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    old = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in old.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


@dataclass
class Run:
    """An open MLflow run: no global state. Every method raises RegistryUnreachableError, RegistryError or
    StorageError."""

    tracking: Tracking
    run_id: str
    experiment_id: str
    _waiting: list[Any] = field(default_factory=list)
    _sent: float = field(default_factory=time.monotonic)

    @property
    def client(self) -> MlflowClient:
        return self.tracking.client

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers of one step. Sent when BATCH have gathered or FLUSH_SECONDS have passed."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._waiting += [Metric(key, float(value), now, step) for key, value in values.items()]
        if len(self._waiting) >= BATCH or time.monotonic() - self._sent > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what has gathered."""
        with faults(self.tracking.address):
            while self._waiting:
                self.client.log_batch(self.run_id, metrics=self._waiting[:BATCH])
                del self._waiting[:BATCH]
        self._sent = time.monotonic()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record params (values as text, MLflow keeps at most 6000 characters)."""
        from mlflow.entities import Param

        entries = [Param(key, str(value)[:6000]) for key, value in params.items()]
        with faults(self.tracking.address):
            for at in range(0, len(entries), PARAMS_BATCH):
                self.client.log_batch(self.run_id, params=entries[at : at + PARAMS_BATCH])

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Upload a file, or a folder's content, as an artifact."""
        with faults(self.tracking.address):
            if path.is_dir():
                self.client.log_artifacts(self.run_id, str(path), folder)
            else:
                self.client.log_artifact(self.run_id, str(path), folder)


@contextlib.contextmanager
def open_run(
    tracking: Tracking, experiment: str, name: str, tags: Mapping[str, Any] | None = None
) -> Iterator[Run]:
    """A run in ``experiment`` (made when missing) that ends as FINISHED, or as FAILED when the body raises.

    Raises RegistryUnreachableError / RegistryError for MLflow's own faults; the body's other exceptions pass
    through."""
    with faults(tracking.address):
        identity = _experiment(tracking, experiment)
        created = tracking.client.create_run(
            identity, run_name=name, tags={k: str(v) for k, v in (tags or {}).items()}
        )
        run = Run(tracking, created.info.run_id, identity)
    try:
        yield run
        run.flush()
        with faults(tracking.address):
            tracking.client.set_terminated(run.run_id, "FINISHED")
    except RegistryUnreachableError:
        raise  # telling a dead server that the run failed would only double the wait
    except BaseException:
        with contextlib.suppress(Exception):
            run.flush()
            tracking.client.set_terminated(run.run_id, "FAILED")
        raise


def _experiment(tracking: Tracking, name: str) -> str:
    from mlflow.entities import LifecycleStage
    from mlflow.exceptions import MlflowException

    found = tracking.client.get_experiment_by_name(name)
    if found is None:
        # MLflow's default for local stores is ./mlartifacts or ./mlruns of whatever folder the process is in.
        place = (tracking.runs.absolute() / ARTIFACTS).as_uri() if tracking.local else None
        try:
            return str(tracking.client.create_experiment(name, artifact_location=place))
        except MlflowException:
            found = tracking.client.get_experiment_by_name(name)  # another process was faster
            if found is None:
                raise
    if found.lifecycle_stage == LifecycleStage.DELETED:
        what = f"the experiment {name!r} was deleted in {tracking.address}."
        raise RegistryError(
            what, stage=STAGE, action="restore it, or choose another with --set register.experiment=NAME."
        )
    return str(found.experiment_id)


def flat(values: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys: ``{"train": {"lr": 1}}`` -> ``{"train.lr": 1}``."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{at}.{key}" if at else str(key)
        out.update(flat(value, name) if isinstance(value, Mapping) else {name: value})
    return out
