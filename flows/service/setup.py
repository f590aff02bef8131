"""Make the embedded databases of Prefect and MLflow before the first run: their migrations take about ten
seconds each.

    python -m flows.service.setup RUNS

``make setup`` calls this. Nothing depends on it: the first run makes what is missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from fade.errors import FadeError
from fade.utils.files import make_folder
from flows.server.runtime import prepare
from tasks.registry.connection import connect


def make_databases(runs: Path) -> None:
    """Make both below ``runs``, unless the environment names servers. Raises StorageError, RegistryError."""
    prepare(runs)
    with ExitStack() as stack:
        if "PREFECT_API_URL" not in os.environ:
            make_folder(Path(os.environ["PREFECT_HOME"]))
            command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
            silent = subprocess.DEVNULL
            # its exit waits for the migration, which runs beside MLflow's
            stack.enter_context(subprocess.Popen(command, stdin=silent, stdout=silent, stderr=silent))
        if "MLFLOW_TRACKING_URI" not in os.environ:
            connect(runs)


if __name__ == "__main__":
    try:
        make_databases(Path(sys.argv[1]))
    except FadeError as error:
        raise SystemExit(str(error)) from None
