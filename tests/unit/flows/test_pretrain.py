"""The new world takes the old one's place whole, and the old one is not lost."""

from __future__ import annotations

from pathlib import Path

from fade.run.resolve_params import parse_params
from flows.pretrain import measured_data, swap

PLACES = {"images": "emoji", "clip": "base/clip", "judge": "judge"}


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


def test_a_swap_that_was_cut_off_at_its_end_does_not_stop_the_next(tmp_path: Path) -> None:
    """After both renames: the new data lies in its place, and the old data still aside."""
    new, data = plant(tmp_path / "assemble", "third"), plant(tmp_path / "data", "second")
    plant(tmp_path / ".data.old", "first")
    swap(new, data, tmp_path / "previous")
    assert (names(data), names(tmp_path / "previous")) == (["third"], ["second"])
    assert not (tmp_path / ".data.old").exists()


def test_a_world_is_measured_by_the_parts_that_it_stands_on(tmp_path: Path) -> None:
    found = measured_data(tmp_path / "worlds" / "sdxl", tmp_path / "old")
    assert found["base"] == f"{tmp_path}/worlds/sdxl/base" and found["base_config"] == ""
    places = {key: found[key] for key in ("images", "clip", "judge")}
    assert places == {one: f"{tmp_path}/old/{end}" for one, end in PLACES.items()}
    assert parse_params({"data": found}).data.judge == f"{tmp_path}/old/judge"
