"""A registry of its own for each test module."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.registry.connection import connect


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No address from outside or from the test before, a working directory of its own, nothing left
    behind."""
    for key in [
        k
        for k in os.environ
        if k.startswith(("MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST", "MLFLOW_REGISTRY"))
    ]:
        monkeypatch.delenv(key)
    monkeypatch.chdir(tmp_path)
    yield
    import mlflow

    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder whose database has its tables: making them takes seconds, so it is done once."""
    runs = tmp_path_factory.mktemp("runs")
    connect(runs)
    return runs
