"""The sqlite file of a store: of another version, of another program, and what is no file; each is refused
before MLflow opens it, byte for byte as it was."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from fade.errors import RegistryError
from tasks.registry.connection import connect
from tasks.registry.database_file import DATABASE, check_database, schemas

pytestmark = pytest.mark.usefixtures("alone")


def refused(runs: Path) -> str:
    """The sentence of the refusal, which came at once and changed nothing."""
    file = runs / DATABASE
    before = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
    start = time.monotonic()
    with pytest.raises(RegistryError) as caught:
        connect(runs)
    assert time.monotonic() - start < 5
    assert before == (hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None)
    assert not list(runs.glob("*.part")) and not (runs / f"{DATABASE}-journal").exists()
    return str(caught.value)


def at_revision(runs: Path, blank: Path, revision: str, *statements: str) -> Path:
    runs.mkdir()
    shutil.copy(blank / DATABASE, runs / DATABASE)
    with closing(sqlite3.connect(runs / DATABASE)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        for statement in statements:
            connection.execute(statement)
    return runs


def test_the_database_of_a_newer_mlflow_is_left_alone(tmp_path: Path, blank: Path) -> None:
    """Without a table that this version would make, which is how MLflow begins to migrate."""
    text = refused(at_revision(tmp_path / "runs", blank, "ffff00001111", "DROP TABLE job_locks"))
    assert "newer MLflow than this MLflow, 3." in text and "its schema is ffff00001111" in text
    assert "Next: install the MLflow that" in text


def test_the_database_of_an_older_mlflow_names_the_backup_and_the_upgrade(
    tmp_path: Path, blank: Path
) -> None:
    runs = at_revision(tmp_path / "it's", blank, "75868b020152", "DROP TABLE job_locks")
    text = refused(runs)
    assert "older MLflow than this MLflow, 3." in text and "its schema is 75868b020152" in text
    assert f"{DATABASE}.75868b020152.backup" in text
    assert "mlflow db upgrade" in text and f"sqlite:///{tmp_path}" in text


def test_the_upgrade_that_is_named_works(tmp_path: Path, blank: Path) -> None:
    """The very command, on a database that the older schema's migrations made."""
    import mlflow.store.db.utils as mlflow_db
    import sqlalchemy
    from alembic import command
    from mlflow.store.tracking.dbmodels.initial_models import Base

    runs = tmp_path / "runs"
    runs.mkdir()
    address = f"sqlite:///{runs / DATABASE}"
    engine = sqlalchemy.create_engine(address)
    Base.metadata.create_all(engine)
    config = mlflow_db._get_alembic_config(address)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "75868b020152")
    engine.dispose()
    line = refused(runs).partition("upgrade it: ")[2]
    for command_line in line.split(" && "):
        program, *arguments = shlex.split(command_line)
        path = shutil.which(program) or str(Path(sys.executable).parent / program)
        subprocess.run([path, *arguments], check=True, capture_output=True)
    assert connect(runs).client.search_experiments()
    assert (runs / f"{DATABASE}.75868b020152.backup").is_file()


def test_the_schemas_are_those_that_alembic_finds() -> None:
    import mlflow
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    known, head = schemas()
    assert head == script.get_current_head()
    assert known == {revision.revision for revision in script.walk_revisions()}


@pytest.mark.parametrize(
    "tables",
    [
        ["notes (id)"],
        ["alembic_version (version_num)", "flow_run (id)", "experiments (id)"],
        ["alembic_version (version_num)"],
    ],
)
def test_the_database_of_another_program_is_left_alone(tmp_path: Path, tables: list[str]) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection, connection:
        for table in tables:
            connection.execute(f"CREATE TABLE {table}")
    text = refused(tmp_path)
    assert "no database of MLflow" in text and tables[-1].partition(" ")[0] in text and "move it away" in text


def test_what_is_no_file_is_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / DATABASE
    made = {
        "a folder": lambda: file.mkdir(),
        "a pipe": lambda: os.mkfifo(file),
        "a link to /nowhere/at/all, which is missing": lambda: file.symlink_to("/nowhere/at/all"),
        "a device": lambda: file.symlink_to("/dev/zero"),
        "no sqlite database": lambda: file.write_bytes(b"PK\3\4" * 100),
    }
    for kind, make in made.items():
        make()
        assert f"{file} is {kind}. Next: move it away" in refused(tmp_path)
        file.rmdir() if file.is_dir() else file.unlink()


def test_a_socket_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's name is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(DATABASE)
        assert "is a socket" in refused(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_the_right_to_read_it(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"")
    (tmp_path / DATABASE).chmod(0)
    assert "cannot be read: Permission denied" in refused(tmp_path)


def test_a_damaged_database_is_named(tmp_path: Path, blank: Path) -> None:
    body = bytearray((blank / DATABASE).read_bytes())
    body[100:4096] = bytes(3996)
    (tmp_path / DATABASE).write_bytes(body)
    assert "cannot be read: " in refused(tmp_path)


def test_an_empty_file_and_an_absent_one_are_new_databases(tmp_path: Path) -> None:
    check_database(tmp_path / "absent" / DATABASE)
    (tmp_path / DATABASE).touch()
    check_database(tmp_path / DATABASE)
    assert (tmp_path / "absent").is_dir() and not (tmp_path / "absent" / DATABASE).exists()
