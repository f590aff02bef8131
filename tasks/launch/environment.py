"""Environment of the tools, set before their import: no telemetry, no hub, all state in the runs folder,
loopback without a proxy, a user with a name."""

from __future__ import annotations

import getpass
import io
import os
import sys
import tempfile
import unicodedata
from pathlib import Path

from fade.errors import StorageError, UsageError
from fade.redact import redact_logs

NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
SAFER_DEFAULTS = {
    # MLflow's own default unpickles whatever a registry holds
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # stdout holds the command's result alone: with --json, one object
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # a first start with migrations needs more than the default
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that no proxy is used for: servers of this machine."""


def configure_environment(runs: Path = Path("runs"), *, hub: bool = False) -> None:
    """Set every no-telemetry and offline variable that the user has not set, and give DVC private folders
    under ``runs``; from here on no log record of this process holds a password.

    hub: leave the Hugging Face hub reachable (the base, CLIP or judge is a hub id). Variables that are set
    already win, but no proxy is used for loopback. Raises UsageError for a name that no runs folder can have,
    StorageError when it cannot be made."""
    check_name(runs)
    redact_logs()
    for key, value in {**NO_TELEMETRY, **({} if hub else OFFLINE), **SAFER_DEFAULTS}.items():
        os.environ.setdefault(key, value)
    # DVC's defaults are the user's and the machine's: another user's remote of the same name, a state
    # database in /var/tmp.
    names = {"GLOBAL_CONFIG": "global", "SYSTEM_CONFIG": "system", "SITE_CACHE": "site"}
    for key, name in ((f"DVC_{variable}_DIR", name) for variable, name in names.items()):
        if key not in os.environ:
            os.environ[key] = str(private_folder(runs.absolute() / "dvc" / name))
    bypass_proxies()
    _name_user(runs)


def open_standard_streams() -> None:
    """Make the standard streams usable: a closed one becomes /dev/null, and text that a stream's encoding
    lacks is written as escapes.

    The number of a closed one would be given to the next file or socket, which a child process then takes
    for its own input or output."""
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        stream = getattr(sys, name)
        if stream is None:
            mode = "w" if number else "r"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
        elif number and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def bypass_proxies() -> None:
    """Add loopback to NO_PROXY, in both spellings that libraries read."""
    entries = [one.strip() for key in ("no_proxy", "NO_PROXY") for one in os.environ.get(key, "").split(",")]
    if "*" not in entries:
        value = ",".join(dict.fromkeys([*filter(None, entries), *LOOPBACK]))
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = value


def _name_user(runs: Path) -> None:
    """Set LOGNAME and HOME where neither the environment nor the system's list of users has them: libraries
    fail without."""
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        os.environ["LOGNAME"] = f"uid-{os.getuid()}"
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(private_folder(runs.absolute() / "home"))


def check_name(runs: Path) -> None:
    """Raises UsageError for a path that a database's address cannot hold: SQLAlchemy ends the file at ``?``
    and knows no quoting, and URLs lose control characters."""
    path = str(runs.absolute())
    wrong = [c for c in path if c == "?" or unicodedata.category(c) in ("Cc", "Cs")]
    if wrong:
        what = f"{path!r} cannot be the runs folder: no database's address can hold {wrong[0]!r}."
        action = "rename the folder, or name another with --runs-dir."
        raise UsageError(what, stage="runs folder", action=action)


def private_folder(
    folder: Path, *, mode: int = 0o700, stage: str = "runs folder", option: str = "--runs-dir"
) -> Path:
    """Make ``folder``, for this user only. Raises StorageError, whose advice names ``option``."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=mode)
        folder.chmod(mode)  # mkdir's mode is cut by the umask and skipped when the folder exists
    except OSError as error:
        what = f"{folder} cannot be made: {error.strerror or error}."
        raise StorageError(what, stage=stage, action=f"name another with {option}.") from error
    return folder


def write_private(path: Path, text: str, *, stage: str = "runs folder", option: str = "--runs-dir") -> Path:
    """Write a file that only this user can read (0600), whole or not at all. Raises StorageError, whose
    advice names ``option``."""
    try:
        descriptor, partial = tempfile.mkstemp(".part", f".{path.name}.", path.parent)  # 0600
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(partial, path)
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror}."
        raise StorageError(what, stage=stage, action=f"name another with {option}.") from error
    return path
