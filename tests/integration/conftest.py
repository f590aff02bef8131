"""A registry of its own for each test module."""

from __future__ import annotations

import os
import shutil
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
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder whose database has its tables and nothing in them, to copy: making them takes seconds."""
    runs = tmp_path_factory.mktemp("blank") / "runs"
    connect(runs)
    return runs


@pytest.fixture(scope="session")
def store(blank: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder whose database has its tables; tests add to it."""
    return shutil.copytree(blank, tmp_path_factory.mktemp("store") / "runs")
