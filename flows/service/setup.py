"""Make the embedded Prefect's and MLflow's databases ahead of the first run: their migrations take about ten
seconds each.

    python -m flows.service.setup RUNS

``make setup`` calls this. Nothing depends on it: what is missing is made by the first run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fade.errors import FadeError
from fade.utils.files import make_folder
from flows.server.runtime import prepare
from tasks.registry.connection import connect


def ready(runs: Path) -> None:
    """Make both databases below ``runs``, unless the environment names servers. Raises StorageError,
    RegistryError."""
    prepare(runs)
    migration = None
    if "PREFECT_API_URL" not in os.environ:
        make_folder(Path(os.environ["PREFECT_HOME"]))
        line = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
        migration = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    try:
        if "MLFLOW_TRACKING_URI" not in os.environ:
            connect(runs)
    finally:
        if migration is not None:
            migration.wait()


if __name__ == "__main__":
    try:
        ready(Path(sys.argv[1]))
    except FadeError as error:
        raise SystemExit(str(error)) from None
