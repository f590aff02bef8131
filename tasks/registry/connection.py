"""The tracking store (MLflow): its address, a client that has answered, and MLflow's exceptions as ours."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fade.errors import FadeError, RegistryError, RegistryUnreachableError, StorageError
from fade.redact import MASK, redact
from fade.utils.files import make_folder
from tasks.launch.environment import configure_environment
from tasks.registry.artifact_locations import update_locations
from tasks.registry.database_file import (
    DATABASE,
    SQLITE,
    STAGE,
    check_database,
    create_database,
    database_file,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

RETRY = "mend that."
START = "start the server, or unset MLFLOW_TRACKING_URI to record under the runs folder."
ADDRESS = "correct MLFLOW_TRACKING_URI, or unset it to record under the runs folder."
_DATABASE_SERVERS = ("postgresql", "postgres", "mysql", "mssql")
_REFUSALS = ("FATAL", "Access denied", "Unknown database")
"""Words of a database server that answers and refuses; without them it could not be reached."""

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

    One small request is sent first: an unreachable server is known after ``timeout / 12`` seconds, one whose
    answer does not end after ``timeout / 4``. Raises RegistryUnreachableError, RegistryError (the server
    refuses or is no MLflow, the database is foreign or of another version), BusyError (see
    `update_locations`), UsageError (the name of runs), StorageError (runs cannot be written)."""
    configure_environment(runs, hub=True)
    uri = _tracking_uri(runs)
    file = database_file(uri)
    seconds = str(max(1, int(timeout / 12)))
    short = {"MLFLOW_HTTP_REQUEST_TIMEOUT": seconds, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    with suppress_warnings(), _environment(short):
        if file is not None:
            make_folder(runs)
            check_database(file)
            create_database(file, _open_client)
            if file.absolute() == (runs / DATABASE).absolute():
                update_locations(file, runs)
            client = _open_client(uri)
        elif _scheme(uri).partition("+")[0] in _DATABASE_SERVERS:
            _check_database_server(uri, timeout)
            client = _open_client(uri)  # no total time: it may have all tables to make
        else:
            client = _within(timeout / 4, redacted(uri), lambda: _contact(uri))
    # For a server that dies later: one retry of a third of the time each, so that a call still ends within
    # the timeout.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(max(1, int(timeout / 3))))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    return Tracking(uri, client, runs)


def check_store(runs: Path) -> None:
    """Examine the database file of `connect`, where it is one, without importing MLflow: for a run, which
    needs the store only at its end. Raises as `check_database`."""
    if (file := database_file(_tracking_uri(runs))) is not None:
        check_database(file)


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


def _scheme(uri: str) -> str:
    """Raises RegistryError for an address that cannot be read."""
    try:
        return urlsplit(uri).scheme
    except ValueError as error:  # its text would show the address, and a password in it
        raise RegistryError("MLFLOW_TRACKING_URI is no address.", stage=STAGE, action=ADDRESS) from error


def _tracking_uri(runs: Path) -> str:
    chosen = os.environ.get("MLFLOW_TRACKING_URI", "")
    if chosen and chosen not in _embedded:
        return chosen
    uri = f"{SQLITE}{(runs.absolute() / DATABASE).as_posix()}"
    _embedded.add(uri)
    return uri


def _check_database_server(uri: str, timeout: float) -> None:
    """Connect once, in ``timeout / 12`` seconds: MLflow would try ten times with growing pauses, and libpq
    waits for ever for a server that accepts and sends nothing. Raises RegistryUnreachableError, RegistryError
    (it refuses, the address is malformed, the driver is missing)."""
    os.environ.setdefault("PGCONNECT_TIMEOUT", str(max(2, int(timeout / 12))))  # libpq's own; its least is 2
    address = redacted(uri)
    with registry_errors(address):
        import sqlalchemy

        try:
            sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool).connect().close()
        except sqlalchemy.exc.OperationalError as error:
            reason = " ".join(str(error.orig).split())[:200]
            if any(word in reason for word in _REFUSALS):
                raise
            what = f"{address} does not answer: {reason}."
            raise RegistryUnreachableError(what, stage=STAGE, action=START) from error
        except ImportError as error:
            what = f"{address} needs a driver that is not installed ({error.name})."
            raise RegistryError(what, stage=STAGE, action=f"pip install {error.name}") from error
        except ValueError as error:
            raise RegistryError(f"{address} is no address: {error}.", stage=STAGE, action=ADDRESS) from error


def _within(seconds: float, address: str, work: Callable[[], MlflowClient]) -> MlflowClient:
    """What ``work`` returns or raises; RegistryUnreachableError when that takes longer: a server may redirect
    for ever or send a byte a second, and no call of MLflow's has a total time."""
    import mlflow  # noqa: F401 (its import takes seconds, which are not the server's)

    outcome: Future[MlflowClient] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()  # one that is left behind ends with the process
    try:
        return outcome.result(max(3.0, seconds))
    except FutureTimeout:
        what = f"{address} does not finish its answer ({seconds:.0f} s)."
        raise RegistryUnreachableError(what, stage=STAGE, action=START) from None


def _contact(uri: str) -> MlflowClient:
    """The client of a server that answers as MLflow's does. Raises as `connect`."""
    from mlflow.exceptions import MlflowException

    try:
        client = _open_client(uri)
        if not client.search_experiments(max_results=1):
            # none that we may see; a server of another kind would "find" this one, too
            with contextlib.suppress(MlflowException):
                if client.get_experiment_by_name(f"fade-{os.getpid()}") is not None:
                    raise ValueError("it finds what does not exist")
    except (FadeError, OSError):
        raise
    except Exception as error:  # MLflow takes any JSON apart: KeyError, TypeError, ParseError, ...
        reason = " ".join(str(error).split())[:120]
        what = f"{redacted(uri)} answers, but not as MLflow does ({type(error).__name__}: {reason})."
        raise RegistryError(what, stage=STAGE, action=ADDRESS) from error
    return client


def _open_client(uri: str) -> MlflowClient:
    import mlflow
    from mlflow import MlflowClient

    with registry_errors(redacted(uri)):
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
