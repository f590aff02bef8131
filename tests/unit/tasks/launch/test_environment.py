"""The environment: quiet unless the user said otherwise, and DVC's folders private."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fade.errors import StorageError
from tasks.launch.environment import NO_TELEMETRY, OFFLINE, SAFER_DEFAULTS, configure_environment

DVC = ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR")


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in (*NO_TELEMETRY, *OFFLINE, *SAFER_DEFAULTS, *DVC):
        monkeypatch.setenv(key, "")  # so that what configure_environment() sets is undone after the test
        monkeypatch.delenv(key)


def test_all_is_quiet_and_private(tmp_path: Path) -> None:
    configure_environment(tmp_path / "runs")
    for key, value in {**NO_TELEMETRY, **OFFLINE, **SAFER_DEFAULTS}.items():
        assert os.environ[key] == value
    for key in DVC:
        folder = Path(os.environ[key])
        assert folder.is_relative_to(tmp_path / "runs") and folder.stat().st_mode & 0o777 == 0o700


def test_the_user_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", "/elsewhere")
    configure_environment(tmp_path / "runs")
    assert os.environ["HF_HUB_OFFLINE"] == "0" and os.environ["DVC_SITE_CACHE_DIR"] == "/elsewhere"


def test_a_hub_stays_reachable_when_it_is_needed(tmp_path: Path) -> None:
    configure_environment(tmp_path / "runs", hub=True)
    assert not [key for key in OFFLINE if key in os.environ]
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_a_runs_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StorageError, match=r"cannot be made: .*--runs-dir"):
        configure_environment(tmp_path / "runs")
