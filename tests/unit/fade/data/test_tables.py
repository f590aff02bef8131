"""The tables hold the measurements of the files; a value that cannot be measured is None."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fade.data.tables import (
    COLUMNS_OF_PICTURES,
    concept_frame,
    count_frame,
    file_frame,
    mined_frame,
    picture_frame,
)
from fade.reporting.page import render_checks
from tests.datasets import make_dataset, save, write_manifest


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_dataset(tmp_path)
    return tmp_path


def rows(frame: pd.DataFrame, name: str, key: str = "path") -> dict[str, object]:
    return dict(frame[frame[key] == name].iloc[0])


def test_a_clean_set(data: Path) -> None:
    frame = picture_frame(data)
    assert list(frame.columns) == list(COLUMNS_OF_PICTURES) and len(frame) == 12
    assert (
        (frame["sha256"] == frame["actual_sha256"]).all() and frame["decodes"].all() and frame["exists"].all()
    )
    assert set(frame["mode"]) == {"RGB"} and set(frame["actual_width"]) == {8} == set(frame["actual_height"])
    assert frame[["error", "duplicate_of", "leaks_from"]].isna().all(axis=None)
    first = np.asarray(Image.open(data / frame["path"][0])).astype(float).mean(axis=-1).std()
    assert frame["std"][0] == pytest.approx(first, abs=1e-4)


def test_a_fault_is_in_one_column(data: Path) -> None:
    (data / "noto/panda.png").unlink()
    content = (data / "noto/koala.png").read_bytes()
    (data / "noto/koala.png").write_bytes(content[: len(content) // 2])
    (data / "noto/tulip.png").write_bytes(b"not a picture")
    save(data / "noto/rose.png", np.full((8, 8, 3), 200, np.uint8))
    save(data / "fluent/rose.png", np.arange(8 * 12 * 3, dtype=np.uint8).reshape(12, 8, 3), "L")
    frame = picture_frame(data)
    missing = rows(frame, "noto/panda.png")
    assert missing["exists"] is False and all(
        missing[k] is None for k in ("actual_sha256", "decodes", "mode", "std", "error")
    )
    cut = rows(frame, "noto/koala.png")
    assert (
        cut["decodes"] is False
        and "truncated" in str(cut["error"])
        and cut["std"] is None
        and cut["actual_sha256"] != cut["sha256"]
    )
    assert rows(frame, "noto/tulip.png")["decodes"] is False
    assert rows(frame, "noto/rose.png")["std"] == 0.0
    odd = rows(frame, "fluent/rose.png")
    assert (odd["mode"], odd["actual_width"], odd["actual_height"]) == ("L", 8, 12)


def test_a_format_that_needs_outside_programs_is_not_opened(data: Path) -> None:
    Image.new("RGB", (8, 8)).save(data / "noto/panda.png", format="EPS")
    assert rows(picture_frame(data), "noto/panda.png")["decodes"] is False


def test_a_huge_picture_is_not_decompressed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fade.data.pictures.MAX_PIXELS", 63)
    assert "too many" in str(rows(picture_frame(data), "noto/panda.png")["error"])


def test_duplicates_by_pixels_not_by_bytes(data: Path) -> None:
    pixels = np.asarray(Image.open(data / "noto/panda.png"))
    Image.fromarray(pixels).save(data / "fluent/koala.png", compress_level=0)  # other bytes, same split
    Image.fromarray(pixels).save(data / "twemoji/rose.png", compress_level=0)  # another split
    frame = picture_frame(data)
    duplicate, leak = rows(frame, "fluent/koala.png"), rows(frame, "twemoji/rose.png")
    assert duplicate["duplicate_of"] == "noto/panda.png" and duplicate["leaks_from"] is None
    assert leak["leaks_from"] == "noto/panda.png" and leak["duplicate_of"] is None
    assert rows(frame, "noto/panda.png")["duplicate_of"] is None


def test_a_path_listed_twice_is_no_duplicate_picture(data: Path) -> None:
    frame = make_dataset(data)
    write_manifest(data, pd.concat([frame, frame.iloc[[0]]]))
    assert picture_frame(data)["duplicate_of"].isna().all()


def test_concepts(data: Path) -> None:
    frame = picture_frame(data)
    frame.loc[0, "family"] = "vehicles"
    concepts = concept_frame(frame)
    assert concepts["concept"].tolist() == ["panda", "koala", "tulip", "rose"]
    assert concepts["families"].tolist() == [2, 1, 1, 1] and concepts["other_families"][0] == "bears"
    assert set(concepts["train"]) == {2} and set(concepts["heldout"]) == {1}


def test_files(data: Path) -> None:
    (data / "noto/stray.png").write_bytes(b"")
    files = file_frame(data, picture_frame(data)["path"])
    assert files[~files["listed"]]["path"].tolist() == ["noto/stray.png"]
    assert len(files) == 13  # the manifest is not a row of itself


def test_mined_pictures() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    pixels[3], pixels[2], pixels[4] = pixels[0], pixels[1], 7
    frame = mined_frame(pixels, ["panda", "panda", "rose", "panda", "rose"])
    assert frame["picture"].tolist() == ["panda #0", "panda #1", "rose #0", "panda #2", "rose #1"]
    # alike across concepts is not a fault of seeds
    assert frame["duplicate_of"].tolist() == [None, None, None, "panda #0", None]
    assert frame["std"][4] == 0.0


def test_counts_and_confidences() -> None:
    frame = count_frame(
        ["panda", "panda", "dog"], {"panda": 2, "rose": 2}, {"panda": 0.9, "dog": float("nan")}
    )
    assert frame["concept"].tolist() == ["panda", "rose", "dog"]
    assert frame["expected"].tolist() == [2, 2, 0] and frame["count"].tolist() == [2, 0, 1]
    assert frame["confidence"].tolist() == [0.9, None, None]


def test_the_page_escapes_and_stays_offline() -> None:
    rule = {
        "name": "decodes",
        "title": "Every picture decodes",
        "type": "expect_x",
        "severity": "critical",
        "success": False,
        "observed": "1 of 3 fail",
        "rows": [{"row": f"<script>{i}", "value": None} for i in range(30)],
        "error": None,
    }
    passed = {**rule, "name": "mode", "success": True, "rows": [], "severity": "warning"}
    page = render_checks("Data <checks>", [passed, rule], {"Pictures": 3})
    assert (
        "<script" not in page
        and "&lt;script&gt;0" in page
        and "and 10 more" in page
        and "Data &lt;checks&gt;" in page
    )
    assert (
        "http:" not in page
        and "https:" not in page
        and "src=" not in page
        and "@import" not in page
        and "url(" not in page
    )
    assert page.index('id="decodes"') < page.index('id="mode"')  # what failed comes first
    assert "1 critical check failed" in page
