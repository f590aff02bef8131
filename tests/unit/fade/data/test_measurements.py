"""What was measured once is known by the bytes; a sample says whether that still holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fade.data import measurements, tables
from fade.data.measurements import Measurements
from fade.data.tables import picture_frame
from tests.datasets import make_dataset


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The contents that were decoded."""
    contents: list[bytes] = []
    real = tables._measure_content

    def counted(content: bytes) -> dict[str, Any]:
        contents.append(content)
        return real(content)

    monkeypatch.setattr(tables, "_measure_content", counted)
    monkeypatch.setattr(measurements, "SAMPLE", 2)
    return contents


def test_known_pictures_are_not_decoded_but_for_a_sample_with_a_seed_of_its_own(
    tmp_path: Path, decoded: list[bytes]
) -> None:
    make_dataset(tmp_path / "data")
    file = tmp_path / "kept.json"
    first = picture_frame(tmp_path / "data", Measurements(file, "code"))
    number = len(decoded)
    samples = []
    for seed in (1, 2, 3):
        decoded.clear()
        kept = Measurements(file, "code")
        assert kept.seed == seed and first.equals(picture_frame(tmp_path / "data", kept))
        samples.append(set(decoded))
        assert len(decoded) == 2 and kept.sentence().endswith(f"(seed {seed}): no difference")
    assert len(set(map(frozenset, samples))) > 1  # not one sample for ever
    decoded.clear()
    picture_frame(tmp_path / "data", Measurements(file, "other code"))
    assert len(decoded) == number  # the control


def test_one_wrong_value_in_the_sample_and_all_are_measured(tmp_path: Path, decoded: list[bytes]) -> None:
    make_dataset(tmp_path / "data")
    file = tmp_path / "kept.json"
    right = picture_frame(tmp_path / "data", Measurements(file, "code"))
    number = len(decoded)
    file.write_text(file.read_text("utf-8").replace('"decodes":true', '"decodes":false'), "utf-8")
    decoded.clear()
    kept = Measurements(file, "code")
    assert right.equals(picture_frame(tmp_path / "data", kept))
    assert len(decoded) == number + 2 and "was not true" in kept.sentence()
    assert right.equals(picture_frame(tmp_path / "data", Measurements(file, "code")))


@pytest.mark.parametrize("damage", ["", "[]", '{"made_by": "code", "pictures": {"a": 1}}', "{"])
def test_a_damaged_file_counts_as_none(tmp_path: Path, damage: str) -> None:
    make_dataset(tmp_path / "data")
    file = tmp_path / "kept.json"
    file.write_text(damage, "utf-8")
    kept = Measurements(file, "code")
    assert not kept.known and picture_frame(tmp_path / "data", kept)["decodes"].all()
