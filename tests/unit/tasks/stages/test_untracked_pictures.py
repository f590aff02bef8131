"""What a run records as its data is what it used, whatever the .dvc files track."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.config import DataConfig
from fade.data.dvcfile import hash_folder, listing_md5
from fade.errors import DataError
from tasks.data.pull import pictures_md5, pull, read_here
from tests.datasets import make_dataset


def tracked(root: Path) -> str:
    """A folder ``data`` with a base and drawings, and its .dvc file; returns its md5."""
    make_dataset(root / "data" / "emoji")
    (root / "data" / "base").mkdir()
    (root / "data" / "base" / "model_index.json").write_text("{}", encoding="utf-8")
    md5 = listing_md5(hash_folder(root / "data"))
    text = f"outs:\n- md5: {md5}\n  hash: md5\n  path: data\n"
    (root / "data.dvc").write_text(text, encoding="utf-8")
    return md5


def test_pictures_outside_of_what_is_tracked_are_recorded_by_their_own_md5(tmp_path: Path) -> None:
    world = tracked(tmp_path)
    make_dataset(tmp_path / "sets" / "mine", seed=1)
    mine = listing_md5(hash_folder(tmp_path / "sets" / "mine"))
    here = DataConfig(images=Path("data/emoji"), base="data/base")
    control = pull(here, tmp_path, tmp_path / "runs")
    assert (control.md5, control.dvc_files) == (world, {"data.dvc": world})

    data = DataConfig(images=Path("sets/mine"), base="data/base")
    pulled = pull(data, tmp_path, tmp_path / "runs")
    assert pulled.md5 == mine != world
    assert pulled.path == tmp_path / "sets" / "mine"
    assert pulled.dvc_files == {"data.dvc": world}
    assert "manifest.csv" in pulled.files and "data/base/model_index.json" in pulled.files
    assert "emoji/manifest.csv" not in pulled.files
    assert pictures_md5(data, tmp_path) == read_here(data, tmp_path).md5 == mine


def test_a_project_may_track_nothing(tmp_path: Path) -> None:
    make_dataset(tmp_path / "mine")
    data = DataConfig(dvc_file=(), images=Path("mine"), base="base")
    pulled = pull(data, tmp_path, tmp_path / "runs")
    assert pulled.md5 == listing_md5(hash_folder(tmp_path / "mine")) and pulled.dvc_files == {}
    changed = tmp_path / "mine" / "noto" / "panda.png"
    changed.write_bytes(changed.read_bytes() + b"x")
    assert pull(data, tmp_path, tmp_path / "runs").md5 != pulled.md5


def test_pictures_that_are_nowhere_are_named(tmp_path: Path) -> None:
    data = DataConfig(dvc_file=(), images=Path("nothing"))
    with pytest.raises(DataError, match="nothing holds no pictures.*fade data import"):
        pull(data, tmp_path, tmp_path / "runs")
