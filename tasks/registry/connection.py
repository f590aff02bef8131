"""The tracking store (MLflow): its address, a client that has answered, and MLflow's exceptions as ours."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fade.errors import FadeError, RegistryError, RegistryUnreachableError, StorageError
from fade.redact import MASK, redact
from tasks.launch.environment import configure_environment

if TYPE_CHECKING:
    from mlflow import MlflowClient

STAGE = "register"
DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
RETRY = "mend that."
START = "start the server, or unset MLFLOW_TRACKING_URI to record under the runs folder."

# set_tracking_uri also writes MLFLOW_TRACKING_URI into the environment, for subprocesses. Without this memory
# a second runs folder in the same process would take the first one's embedded address for the user's choice.
_embedded: set[str] = set()


@dataclass(frozen=True)
class Tracking:
    """A store that has answered."""

    uri: str
    """As MLflow uses it; may hold a password. Show `address` instead."""
    client: MlflowClient
    runs: Path

    @property
    def address(self) -> str:
        return redacted(self.uri)

    @property
    def local(self) -> bool:
        """Whether it is a database file of this machine, whose artifacts lie under the runs folder."""
        return urlsplit(self.uri).scheme in {"sqlite", "file"}


def connect(runs: Path, *, timeout: float = 60.0) -> Tracking:
    """The tracking store: MLFLOW_TRACKING_URI when it is set, else sqlite at ``runs/mlflow.db``.

    One small request is sent first: an unreachable server is known after ``timeout / 12`` seconds. Raises
    RegistryUnreachableError, RegistryError (the server refuses), StorageError (runs cannot be written)."""
    configure_environment(runs, hub=True)
    uri = _tracking_uri(runs)
    if urlsplit(uri).scheme == "sqlite":
        _check_database(runs, uri)
    else:
        _check_database_server(uri, timeout)
    with suppress_warnings():
        _create_database(uri, timeout)
        client = _open_client(uri, timeout)
    # For a server that dies later: one retry of a third of the time each, so that a call still ends within
    # the timeout.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, int(timeout / 3))))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    return Tracking(uri, client, runs)


def redacted(uri: str) -> str:
    """An address without its user name, password and query; the anchors of logs name the store by it."""
    return redact(uri).replace(f"{MASK}@", "").replace(f"?{MASK}", "")


@contextlib.contextmanager
def suppress_warnings() -> Iterator[None]:
    """Without the warnings that MLflow raises about its own code and its own libraries."""
    with warnings.catch_warnings(action="ignore"):
        yield


@contextlib.contextmanager
def registry_errors(address: str) -> Iterator[None]:
    """MLflow's exceptions as ours: RegistryUnreachableError for a failed connection, StorageError for a disk
    that refuses, RegistryError for all others."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, requests.RequestException, SQLAlchemyError, OSError) as error:
        kind: type[FadeError] = RegistryError
        action = RETRY
        if isinstance(error, OSError) and error.errno in _DISK:
            kind, what = StorageError, f"{error.filename or address}: {error.strerror}."
        elif _is_connection_failure(error):
            kind, action = RegistryUnreachableError, START
            what = f"{address} does not answer ({type(error).__name__})."
        elif (status := _http_status(error)) in _LOGIN:
            refusal, action = _LOGIN[status]
            what = f"{address} {refusal} ({status})."
        else:
            reason = redact(" ".join(str(error).split()))  # before it is cut: half a password is one, too
            what = f"{address} refused: {reason[:300]}"
        raise kind(what, stage=STAGE, action=action) from error


_DISK = {errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT}
_PERMISSION = "ask whoever runs the server for the permission, or log in as another user."
_LOGIN = {
    401: ("does not know us", "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."),
    403: ("does not let us do that", _PERMISSION),
}


def _http_status(error: BaseException) -> int | None:
    """The HTTP status of a server's refusal, as far as MLflow gives it."""
    if (response := getattr(error, "response", None)) is not None:
        return int(response.status_code)
    match = re.search(r"failed with error code (\d{3}) ", str(error))
    return int(match[1]) if match else None


def _is_connection_failure(error: BaseException) -> bool:
    import requests

    connection = (requests.ConnectionError, requests.Timeout, ConnectionError, TimeoutError)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, connection):
            return True
        if isinstance(cause, requests.HTTPError) and _http_status(cause) in {502, 503, 504}:
            return True
        cause = cause.__cause__ or cause.__context__
    # MLflow wraps an exhausted retry in a text
    return "Max retries exceeded" in str(error) or "too many 50" in str(error)


def _tracking_uri(runs: Path) -> str:
    chosen = os.environ.get("MLFLOW_TRACKING_URI", "")
    if chosen and chosen not in _embedded:
        return chosen
    uri = f"sqlite:///{(runs.absolute() / DATABASE).as_posix()}"
    _embedded.add(uri)
    return uri


def _check_database(runs: Path, uri: str) -> None:
    """Make the folders of an sqlite file. Raises StorageError, or RegistryError for another kind of file."""
    path = urlsplit(uri).path
    file = Path(path[1:] if uri.startswith("sqlite:////") else path.lstrip("/"))
    try:
        for folder in (file.parent, runs):
            folder.mkdir(parents=True, exist_ok=True)
        if not os.access(file.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        what = f"{file.parent} cannot be written: {error.strerror}."
        raise StorageError(what, stage=STAGE, action="name another with --runs-dir.") from error
    if file.is_file():
        with file.open("rb") as stream:
            header = stream.read(16)
        if header not in (b"", b"SQLite format 3\0"):
            what = f"{file} is no sqlite database."
            raise RegistryError(what, stage=STAGE, action="move it away; a new one will be made.")


def _check_database_server(uri: str, timeout: float) -> None:
    """Raises RegistryUnreachableError at once where MLflow would try ten times with growing pauses. HTTP is
    left out, as it may go through a proxy."""
    parts = urlsplit(uri)
    if not parts.hostname or not parts.port or parts.scheme.startswith("http"):
        return
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=max(1.0, timeout / 12)).close()
    except OSError as error:
        what = f"{redacted(uri)} does not answer: {error}."
        raise RegistryUnreachableError(what, stage=STAGE, action=START) from error


def _create_database(uri: str, timeout: float) -> None:
    """Make a new sqlite database whole or not at all: a database with half of MLflow's migrations, left by a
    Ctrl-C, could not be opened again."""
    if not uri.startswith("sqlite:////") or (file := Path(urlsplit(uri).path[1:])).exists():
        return
    fresh = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        _open_client(f"sqlite:///{fresh.as_posix()}", timeout)
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(fresh, file)
    finally:
        fresh.unlink(missing_ok=True)


def _open_client(uri: str, timeout: float) -> MlflowClient:
    import mlflow
    from mlflow import MlflowClient

    seconds = str(max(1, int(timeout / 12)))
    short = {"MLFLOW_HTTP_REQUEST_TIMEOUT": seconds, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    with _environment(short), registry_errors(redacted(uri)):
        mlflow.set_tracking_uri(uri)
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {key: os.environ[key] for key in values if key in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for key in values:
            os.environ.pop(key, None)
        os.environ.update(before)
