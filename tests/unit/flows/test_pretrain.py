"""The new world takes the old one's place whole, and the old one is not lost."""

from __future__ import annotations

from pathlib import Path

from flows.pretrain import swap


def plant(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True)
    (folder / name).write_text(name)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_the_old_data_lies_beside_the_build_afterwards(tmp_path: Path) -> None:
    new, data = plant(tmp_path / "build" / "assemble", "second"), plant(tmp_path / "data", "first")
    previous = tmp_path / "build" / "previous"
    swap(new, data, previous)
    assert (names(data), names(previous), names(tmp_path)) == (["second"], ["first"], ["build", "data"])
    swap(new, data, previous)
    assert (names(data), names(previous), names(new)) == (["second"], ["second"], ["second"])


def test_a_first_world_needs_no_old_one(tmp_path: Path) -> None:
    swap(plant(tmp_path / "assemble", "first"), tmp_path / "data", tmp_path / "previous")
    assert names(tmp_path / "data") == ["first"] and not (tmp_path / "previous").exists()


def test_a_swap_that_was_cut_off_loses_nothing(tmp_path: Path) -> None:
    """Between the two renames: the old data lies aside, nothing is in its place."""
    new = plant(tmp_path / "assemble", "second")
    plant(tmp_path / ".data.old", "first")
    plant(tmp_path / ".data.new", "half")
    swap(new, tmp_path / "data", tmp_path / "previous")
    assert (names(tmp_path / "data"), names(tmp_path / "previous")) == (["second"], ["first"])
