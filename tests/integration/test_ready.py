"""What `make setup` makes ahead: both databases, with the real migrations, where the first run looks for
them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.e2e.support import environment


def test_both_databases_are_there_and_whole(repo: Path, tmp_path: Path) -> None:
    runs, clean = tmp_path / "new" / "runs", environment()
    line = [sys.executable, "-m", "flows.service.setup", str(runs)]
    assert subprocess.run(line, cwd=repo, env=clean, capture_output=True, timeout=200).returncode == 0
    for file, table in (
        (runs / "prefect" / "prefect.db", "flow_run"),
        (runs / "mlflow.db", "registered_models"),
    ):
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
            tables = {
                name for (name,) in database.execute("select name from sqlite_master where type = 'table'")
            }
            assert {table, "alembic_version"} <= tables
            assert database.execute("select count(*) from alembic_version").fetchone() == (1,)
        database.close()
    assert not list(runs.glob(".*.part"))


def test_a_folder_that_cannot_be_made_is_named(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    line = [sys.executable, "-m", "flows.service.setup", str(tmp_path / "file" / "runs")]
    done = subprocess.run(line, cwd=repo, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "--runs-dir" in done.stderr and "Traceback" not in done.stderr
