"""A runs folder that the code before the rebuild made: two versions of panda, one of lemon, decisions, an
audit, a request.

Made by: ``fade run`` (panda; then with seed 1 and signed), promote 1, promote 2, reject 1, ``fade audit
fade-panda/2 --evidence-only``, ``fade requests run`` (lemon-2026). Kept are the store, its artifacts without
pictures and pages, the public key and the ledger. MLflow keeps absolute paths: in the archive the folder is
called /RUNS. Never made anew: that it is old is its use."""

from __future__ import annotations

import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

from tests.golden.machine import FOLDER

ARCHIVE = FOLDER / "runs-before-rebuild.tar.xz"
PLACEHOLDER = "/RUNS"
ADAPTERS = {
    "fade-panda/1": "1ce2c67abef94b564dc52506d734f89aa2e48b387ca63e48f04a8cbcde7dae8c",
    "fade-panda/2": "1905257dd9a05f33367fbe9964c0d9f2aa9eff7b731d4b23194c5b126caa9ceb",
    "fade-lemon/1": "96be0465601d7a7921110e2b4da72cd96ab1bb6f8b438b5d36dccf9cfe57f8f0",
}


FIRST_DECISION = "561244201520e95dcc103da86780a8035613464fb7f560327525a6512777789b"
FIRST_AUDIT = "586eeb00883ce73886dcdf0ced3b7525ff3e8d790f87b41d298e4f72f30dfe12"


def unpack(folder: Path) -> Path:
    """The runs folder, unpacked as ``folder``, which its store knows by its new name."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        for table, column in _places(connection):
            where = (
                f"UPDATE {table} SET {column} = replace({column}, ?, ?) WHERE typeof({column}) = 'text' "
                f"AND instr({column}, ?)"
            )
            connection.execute(where, (f"{PLACEHOLDER}/", f"{folder}/", f"{PLACEHOLDER}/"))
    for model in folder.rglob("MLmodel"):
        model.write_text(
            model.read_text(encoding="utf-8").replace(f"{PLACEHOLDER}/", f"{folder}/"), encoding="utf-8"
        )
    return folder


def _places(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return [(table, row[1]) for table in tables for row in connection.execute(f"PRAGMA table_info({table})")]
