"""Environment of the tools, set before their import: no telemetry, no hub, all state in the runs folder."""

from __future__ import annotations

import os
from pathlib import Path

from fade.errors import StorageError
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


def configure_environment(runs: Path = Path("runs"), *, hub: bool = False) -> None:
    """Set every no-telemetry and offline variable that the user has not set, and give DVC private folders
    under ``runs``; from here on no log record of this process holds a password.

    hub: leave the Hugging Face hub reachable (the base, CLIP or judge is a hub id). Variables that are set
    already win. Raises StorageError when the runs folder cannot be made."""
    redact_logs()
    for key, value in {**NO_TELEMETRY, **({} if hub else OFFLINE), **SAFER_DEFAULTS}.items():
        os.environ.setdefault(key, value)
    # DVC's defaults are the user's and the machine's: another user's remote of the same name, a state
    # database in /var/tmp.
    names = {"GLOBAL_CONFIG": "global", "SYSTEM_CONFIG": "system", "SITE_CACHE": "site"}
    for key, name in ((f"DVC_{variable}_DIR", name) for variable, name in names.items()):
        if key not in os.environ:
            os.environ[key] = str(private_folder(runs.absolute() / "dvc" / name))


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
