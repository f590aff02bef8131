"""What every test stands on: no telemetry, no hub, no one else's servers or settings, few threads."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent

# Set here, not in a fixture: the tools read most of these when they are imported.
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "MPLBACKEND": "Agg",
    "NO_COLOR": "1",
    "COLUMNS": "160",  # rich would fold the sentences that tests look for
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}
FOREIGN = (
    "MLFLOW_TRACKING_",
    "MLFLOW_REGISTRY_",
    "PREFECT_API_",
    "PREFECT_PROFILE",
    "FADE_",
    "ACCELERATE_",
    "FORCE_COLOR",
)

for _key in [key for key in os.environ if key.startswith(FOREIGN)]:
    del os.environ[_key]
os.environ.update(QUIET)
# Spinning pools on few cores slow each other down: two threads in all, or one in each of pytest-xdist's
# workers, which inherit what their controller has set here.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))


# The collector of cycles would walk through everything that the tests import, and libraries call it by
# name: what is there when a module's tests begin is left alone.
gc.disable()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Without pytest's own capture of log records, which asks thousands of libraries' loggers three times a
    test."""
    plugins = session.config.pluginmanager
    if (logs := plugins.get_plugin("logging-plugin")) is not None:
        plugins.unregister(logs)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="module")
def _leave_imports_alone() -> None:
    gc.freeze()


_HOME = tempfile.TemporaryDirectory(prefix="fade-tests-")
os.environ["PREFECT_HOME"] = (
    f"{_HOME.name}/prefect"  # neither read nor change the user's profiles and database
)
for _name in ("GLOBAL_CONFIG", "SYSTEM_CONFIG", "SITE_CACHE"):
    os.environ[f"DVC_{_name}_DIR"] = f"{_HOME.name}/dvc/{_name.lower()}"


def pytest_unconfigure() -> None:
    """Remove what the session kept in place of the user's folders."""
    _HOME.cleanup()


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the repository (read only, please)."""
    return REPO


@pytest.fixture(scope="session")
def tiny_base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised miniature Stable Diffusion directory: 4x8x8 latents, prompts of at most 16
    tokens. Read only."""
    from tests.support import make_tiny_base

    return make_tiny_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def family_dir(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a miniature of `tests.models_of_families.FAMILIES`, by name; made once. Read only."""
    from tests.models_of_families import make_family

    return cache(lambda name: make_family(tmp_path_factory.mktemp("family") / name, name))
