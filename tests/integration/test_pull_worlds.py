"""Worlds beside the default, over a real git and DVC repository: pulled into places of their own, by md5."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fade.config import DataConfig
from fade.errors import DataError, RemoteError
from tasks.data.publish import publish
from tasks.data.pull import pull, read_here

ROOT = Path(__file__).parents[2]
OLD = {"emoji/panda.png": b"a panda", "base/unet": b"the first of all"}
NEW = {"emoji/panda.png": b"a panda", "emoji/tulip.png": b"a tulip", "base/unet": b"better"}
DATA, WORLD = Path("data.dvc"), Path("worlds/old.dvc")
DEFAULT = DataConfig()
ALONE = DataConfig(dvc_file=WORLD, images=Path("worlds/old/emoji"))
BOTH = DataConfig(dvc_file=(DATA, WORLD), base="worlds/old/base")
KILLED = """
import os, signal, sys
from pathlib import Path
from dvc.repo import Repo
from fade.config import DataConfig
from tasks.data.pull import pull
Repo.checkout = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
pull(DataConfig(), Path(sys.argv[1]), Path(sys.argv[1]) / "runs")
"""

# DVC's `add` and `push` read a property that pygtrie is about to drop; nothing of ours does.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise:DeprecationWarning")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose first data is kept as worlds/old.dvc, and whose second is data.dvc."""
    repo = tmp_path_factory.mktemp("origin")
    (repo / ".dvc").mkdir()
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitattributes"):
        shutil.copy(ROOT / name, repo / name)
    (repo / ".gitignore").write_text("/data/\n/runs/\n")
    (repo / "worlds").mkdir()
    shutil.copy(ROOT / "worlds" / ".gitignore", repo / "worlds")
    git(repo, "init", "-q")
    write(repo / "data", OLD)
    publish(repo, repo / "runs")
    (repo / WORLD).write_text((repo / DATA).read_text().replace("path: data", "path: old"))
    write(repo / "data", NEW)
    publish(repo, repo / "runs")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "an old world beside the new one")
    return repo


@pytest.fixture
def clone(origin: Path, tmp_path: Path) -> Path:
    """A fresh clone: no data, no cache."""
    git(tmp_path, "clone", "-q", str(origin), "clone")
    assert not (tmp_path / "clone/data").exists() and not (tmp_path / "clone/worlds/old").exists()
    return tmp_path / "clone"


def git(at: Path, *words: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *who, *words], cwd=at, check=True, capture_output=True)


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def stored(repo: Path, content: bytes) -> Path:
    """The object of ``content`` in the embedded remote."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return repo / "remote" / "files" / "md5" / md5[:2] / md5[2:]


def md5_in(file: Path) -> str:
    return str(yaml.safe_load(file.read_text())["outs"][0]["md5"])


def test_the_remote_keeps_the_old_world_and_stores_what_both_have_once(clone: Path) -> None:
    objects = [p.read_bytes() for p in (clone / "remote").rglob("*") if p.is_file() and p.suffix != ".dir"]
    assert sorted(objects) == sorted({*OLD.values(), *NEW.values()})


def test_an_old_world_is_pulled_into_a_place_of_its_own(clone: Path) -> None:
    got = pull(ALONE, clone, clone / "runs")
    assert contents(clone / "worlds/old") == OLD and not (clone / "data").exists()
    assert got.dvc_files == {str(WORLD): got.md5} and got.md5 == md5_in(clone / WORLD)
    assert got.path == clone / "worlds/old" and set(got.files) == set(OLD)


def test_the_default_does_not_pull_the_others(clone: Path) -> None:
    got = pull(DEFAULT, clone, clone / "runs")
    assert contents(clone / "data") == NEW and not (clone / "worlds/old").exists()
    assert got.dvc_files == {str(DATA): md5_in(clone / DATA)}


def test_several_files_are_one_record_that_names_each(clone: Path) -> None:
    got = pull(BOTH, clone, clone / "runs")
    assert contents(clone / "data") == NEW and contents(clone / "worlds/old") == OLD
    assert got.dvc_files == {str(file): md5_in(clone / file) for file in (DATA, WORLD)}
    assert got.md5 == md5_in(clone / DATA) and got.path == clone / "data"
    assert set(got.files) == {*NEW, *(f"old/{name}" for name in OLD)}
    assert (got.nfiles, got.size) == (5, sum(map(len, [*NEW.values(), *OLD.values()])))
    again = pull(BOTH, clone, clone / "runs")
    assert (again.files, again.fetched) == (got.files, 0)


def test_what_lies_here_is_hashed_by_the_same_names(clone: Path) -> None:
    got = pull(BOTH, clone, clone / "runs")
    here = read_here(BOTH, clone)
    assert (here.dvc_files, here.files, here.size) == (got.dvc_files, got.files, got.size)
    write(clone / "worlds/old", {"base/unet": b"mine"})
    changed = read_here(BOTH, clone)
    assert changed.md5 == got.md5 and changed.dvc_files[str(WORLD)] != got.dvc_files[str(WORLD)]


def test_a_world_that_the_remote_lost_is_refused_and_the_default_is_complete(clone: Path) -> None:
    stored(clone, b"the first of all").unlink()
    with pytest.raises(RemoteError, match="old/base/unet"):
        pull(BOTH, clone, clone / "runs")
    assert not (clone / "worlds/old").exists() and contents(clone / "data") == NEW


def test_what_a_killed_pull_left_of_one_folder_is_not_put_into_another(clone: Path) -> None:
    pull(DEFAULT, clone, clone / "runs")
    write(clone / "data", {"own.txt": b"mine"})
    (clone / "data/base/unet").unlink()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(clone)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL and not (clone / "data/own.txt").exists()
    pull(ALONE, clone, clone / "runs")
    assert contents(clone / "worlds/old") == OLD
    assert pull(DEFAULT, clone, clone / "runs").unlisted == ("own.txt",)
    assert contents(clone / "data") == {**NEW, "own.txt": b"mine"}


def test_a_file_in_the_place_of_a_folder_is_not_deleted(clone: Path) -> None:
    (clone / "worlds/old").write_text("mine")
    with pytest.raises(DataError, match="worlds/old is no folder, and .*old.dvc tracks one") as caught:
        pull(ALONE, clone, clone / "runs")
    assert "move it away" in caught.value.action and (clone / "worlds/old").read_text() == "mine"


def test_publish_keeps_the_objects_of_a_world_that_was_never_pulled(clone: Path) -> None:
    pull(DEFAULT, clone, clone / "runs")
    write(clone / "data", {"emoji/tulip.png": b"a better tulip"})
    publish(clone, clone / "runs")
    assert not stored(clone, b"a tulip").exists() and stored(clone, b"a better tulip").exists()
    pull(ALONE, clone, clone / "runs")
    assert contents(clone / "worlds/old") == OLD
