"""A runs folder that was moved or copied: its artifacts are found, and nothing is written at its former
place. Real registries on sqlite, one of them made by older code."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fade.errors import BusyError, UsageError
from tasks.launch.environment import configure_environment
from tasks.registry import artifact_locations
from tasks.registry.artifact_locations import COLUMNS, update_locations
from tasks.registry.connection import connect
from tasks.registry.database_file import ARTIFACTS, DATABASE
from tasks.registry.lineage import trace
from tasks.registry.pending import PENDING
from tasks.registry.register import register, register_pending
from tasks.registry.verify import verify
from tasks.registry.versions import load_version, open_version
from tests.golden import old_runs
from tests.registered import finished_run

pytestmark = pytest.mark.usefixtures("alone")
PANDA = "fade-panda/1"


def addresses(runs: Path) -> list[str]:
    """Every address of an artifact folder in the database, but MLflow's own default."""
    with closing(sqlite3.connect(runs / DATABASE)) as connection:
        rows = [uri for t, c in COLUMNS for (uri,) in connection.execute(f"SELECT {c} FROM {t}") if uri]
    return [uri for uri in rows if "/mlruns/" not in uri]


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def all_work(runs: Path) -> None:
    """The old version's bytes, record and proof."""
    adapter = load_version(PANDA, runs).read_bytes()
    assert hashlib.sha256(adapter).hexdigest() == old_runs.ADAPTERS[PANDA]
    assert trace(PANDA, runs).lineage.content["outputs"]["adapter_sha256"] == old_runs.ADAPTERS[PANDA]
    assert "adapter" in [row["what"] for row in verify(PANDA, runs)]


def test_a_moved_folder_has_its_artifacts_and_leaves_its_former_place_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = old_runs.unpack(tmp_path / "before" / "runs")
    after = tmp_path / "after" / "runs"
    shutil.move(before.parent, after.parent)
    all_work(after)
    assert f"{after} was {before} before" in capfd.readouterr().err
    result, params, lineage, run_dir = finished_run(tmp_path, model_prefix="moved")
    assert register(result, params, lineage, run_dir, runs=after).version == "1"
    assert load_version("moved-panda/1", after).read_bytes() == (run_dir / "adapter.safetensors").read_bytes()
    assert not before.parent.exists()
    assert not [uri for uri in addresses(after) if f"{before}/" in uri]
    assert "was" not in capfd.readouterr().err, "the second use has nothing to rewrite"


def test_two_copies_write_each_into_its_own(tmp_path: Path, blank: Path) -> None:
    one, two = tmp_path / "one" / "runs", tmp_path / "two" / "runs"
    shutil.copytree(blank, one)
    register(*finished_run(tmp_path / "a", model_prefix="mine"), runs=one)
    shutil.copytree(one, two)
    before = files(one)
    result = register(*finished_run(tmp_path / "b", seed=1, model_prefix="mine"), runs=two)
    assert result.version == "2" and files(one) == before, "the copy wrote into the original"
    before = files(two)
    assert register(*finished_run(tmp_path / "c", seed=2, model_prefix="mine"), runs=one).version == "2"
    assert files(two) == before, "the original wrote into the copy"
    for runs, other in ((one, two), (two, one)):
        assert not [uri for uri in addresses(runs) if f"{other}/" in uri]
        assert load_version("mine-panda/2", runs).is_relative_to(runs)
        shutil.move(runs, runs.with_name("away"))  # what one holds does not depend on the other
        assert load_version("mine-panda/1", runs.with_name("away")).is_file()
        shutil.move(runs.with_name("away"), runs)


def test_a_link_to_the_folder_is_the_folder(tmp_path: Path) -> None:
    runs = old_runs.unpack(tmp_path / "runs")
    link = tmp_path / "link"
    link.symlink_to(runs)
    before = addresses(runs)
    all_work(link)
    assert addresses(runs) == before


def test_a_folder_elsewhere_that_an_experiment_was_given_is_left_alone(tmp_path: Path, blank: Path) -> None:
    runs, elsewhere = tmp_path / "runs", tmp_path / "share" / ARTIFACTS
    shutil.copytree(blank, runs)
    elsewhere.mkdir(parents=True)
    connect(runs).client.create_experiment("share", artifact_location=elsewhere.as_uri())
    register(*finished_run(tmp_path, experiment="share"), runs=runs)
    assert connect(runs).client.get_experiment_by_name("share").artifact_location == elsewhere.as_uri()
    assert list(elsewhere.rglob("adapter*"))


def test_artifacts_that_were_left_behind_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before, after = old_runs.unpack(tmp_path / "before"), tmp_path / "after"
    shutil.copytree(before, after)
    shutil.rmtree(after / ARTIFACTS / "models")
    connect(after)
    assert f"3 artifact folders are missing: copy them from {before / ARTIFACTS}." in capfd.readouterr().err


USE = """
import sys
from pathlib import Path
from tasks.registry.artifact_locations import update_locations
print("ready", flush=True)
sys.stdin.readline()
update_locations(Path(sys.argv[1]) / "mlflow.db", Path(sys.argv[1]))
print("done", flush=True)
sys.stdin.read()
"""
PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@contextmanager
def using(runs: Path, count: int = 1) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that use the store of ``runs`` at the same moment, until the block ends."""
    with ExitStack() as stack:
        line = [sys.executable, "-c", USE, str(runs)]
        users = [stack.enter_context(subprocess.Popen(line, text=True, **PIPES)) for _ in range(count)]
        assert [user.stdout.readline() for user in users] == ["ready\n"] * count
        for user in users:
            user.stdin.write("go\n")
            user.stdin.flush()
        assert [user.stdout.readline() for user in users] == ["done\n"] * count
        yield users
        for user in users:
            user.stdin.close()


def test_the_folder_is_not_rewritten_under_a_process_that_uses_it_by_its_former_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a container that mounts the folder under another name: it would write where nobody looks."""
    runs, renamed = old_runs.unpack(tmp_path / "runs"), tmp_path / "renamed"
    with using(runs):
        runs.rename(renamed)
        monkeypatch.setattr(artifact_locations, "PATIENCE", 0.1)
        with pytest.raises(BusyError, match="another process uses it under that name"):
            update_locations(renamed / DATABASE, renamed)
        assert f"{runs}/" in addresses(renamed)[0]
    update_locations(renamed / DATABASE, renamed)
    assert f"{renamed}/" in addresses(renamed)[0]


def test_of_many_first_uses_at_once_one_rewrites_and_none_fails(tmp_path: Path) -> None:
    runs = tmp_path / "moved"
    old_runs.unpack(tmp_path / "before").rename(runs)
    with using(runs, 4) as users:
        for user in users:
            user.stdin.close()  # type: ignore[union-attr]
        written = [user.stderr.read() for user in users]  # type: ignore[union-attr]
    assert sum("was" in text for text in written) == 1, written
    all_work(runs)


def test_a_rewrite_that_is_cut_off_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    runs = tmp_path / "moved"
    old_runs.unpack(tmp_path / "before").rename(runs)
    before = addresses(runs)
    with closing(sqlite3.connect(runs / DATABASE)) as connection, connection:
        connection.execute(
            "CREATE TRIGGER stop BEFORE UPDATE ON model_versions BEGIN SELECT RAISE(ABORT, 'cut'); END"
        )
    with pytest.raises(Exception, match="cut"):
        update_locations(runs / DATABASE, runs)
    assert addresses(runs) == before


@pytest.mark.parametrize("name", ["a#b", "a%41 b", "it's", "größe", 'x"y'])
def test_a_folder_of_any_name_holds_all_that_is_its_own(tmp_path: Path, blank: Path, name: str) -> None:
    home = tmp_path / name
    home.mkdir()
    shutil.copytree(blank, home / "runs")
    run = finished_run(home)
    register(*run, runs=home / "runs")
    adapter = (run[3] / "adapter.safetensors").read_bytes()
    assert load_version("fade-panda/1", home / "runs").read_bytes() == adapter
    renamed = tmp_path / f"{name} 2"
    home.rename(renamed)
    shutil.rmtree(renamed / "runs" / "cache")
    assert load_version("fade-panda/1", renamed / "runs").read_bytes() == adapter
    assert list(tmp_path.iterdir()) == [renamed]


@pytest.mark.parametrize("name", ["a?b", "a\nb", "a\x9bb", "a\udce9b"])
def test_a_name_that_no_database_address_can_hold_is_refused_before_anything_is_written(
    tmp_path: Path, name: str
) -> None:
    for use in (configure_environment, connect):
        with pytest.raises(UsageError, match="cannot be the runs folder"):
            use(tmp_path / name / "runs")
    assert list(tmp_path.iterdir()) == []


def test_a_pending_registration_of_a_moved_folder_is_done_in_the_new_place(
    tmp_path: Path, blank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    result, params, lineage, run_dir = finished_run(project)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with pytest.raises(Exception, match="does not answer"):
            register(result, params, lineage, run_dir, runs=project / "runs", root=project)
    shutil.copy(blank / DATABASE, project / "runs" / DATABASE)
    pending = json.loads((run_dir / PENDING).read_text())
    pending["params"]["data"] |= {"images": "images", "base": "base"}  # as in a project
    (run_dir / PENDING).write_text(json.dumps(pending))
    moved = tmp_path / "moved"
    project.rename(moved)
    done = register_pending(moved / run_dir.relative_to(project))
    assert open_version(f"{done.name}/1", moved / "runs")[1].run_id == done.run_id
    assert not project.exists()
