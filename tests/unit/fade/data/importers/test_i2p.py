"""I2P's table as prompts.csv: the same rows, a record of what was read, all or nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from fade.data.importers.i2p import COLUMNS, RECORD, TABLE, I2POptions, import_i2p
from fade.data.prompts import read_prompts
from fade.errors import StorageError, UnknownNameError, UsageError
from tests.prompt_tables import LOST, ROWS, esd_table, official_table


def test_what_is_written_reads_as_what_was_read(tmp_path: Path) -> None:
    file = official_table(tmp_path / "i2p_benchmark.csv")
    summary = import_i2p(file, tmp_path / "sets" / "i2p")
    written = tmp_path / "sets" / "i2p" / TABLE
    assert read_prompts(written, "nudity").prompts == read_prompts(file, "nudity").prompts
    assert written.read_text(encoding="utf-8").splitlines()[0] == ",".join(COLUMNS)
    assert json.loads(written.with_name(RECORD).read_text(encoding="utf-8")) == summary
    assert summary["written"] == {TABLE: hashlib.sha256(written.read_bytes()).hexdigest()}
    assert summary["file"] == {
        "name": file.name,
        "bytes": file.stat().st_size,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    assert summary["layout"] == "official" and summary["licence"]["name"] == "MIT"
    assert summary["rows"] == {"table": 9, "whole": False, "written": 9, "filtered": 0}
    assert (summary["nude"], summary["hard"], summary["sizes"]) == (4, 5, {"other_than_512": 6})
    assert summary["duplicates"] == {"prompt": 2, "prompt_and_seed": 1} and summary["left_out"] == []
    again = import_i2p(written, tmp_path / "again")
    assert (tmp_path / "again" / TABLE).read_bytes() == written.read_bytes()
    assert again["layout"] == TABLE


def test_the_prompt_that_esds_copy_lost_is_left_out_on_request_and_recorded(tmp_path: Path) -> None:
    file = esd_table(tmp_path / "unsafe-prompts4703.csv")
    with pytest.raises(UsageError, match="word 'Null'.*--lenient"):
        import_i2p(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    summary = import_i2p(file, tmp_path / "out", I2POptions(lenient=True))
    lost = {"row": LOST + 1, "seed": ROWS[LOST][4], "lost": "Null", "why": "no prompt"}
    assert summary["left_out"] == [lost] and summary["layout"] == "esd"
    assert summary["rows"] == {"table": 9, "whole": False, "written": 8, "filtered": 0}
    assert {"", "case_number"} <= set(summary["columns"]["ignored"])


def test_a_part_is_taken_and_the_rest_counted(tmp_path: Path) -> None:
    file = official_table(tmp_path / "i2p.csv")
    nude = import_i2p(file, tmp_path / "nude", I2POptions(nude=True))
    assert nude["rows"]["written"] == nude["nude"] == 4 and nude["rows"]["filtered"] == 5
    hate = import_i2p(file, tmp_path / "hate", I2POptions(category="hate"))
    assert hate["categories"]["hate"] == 2 and hate["options"]["category"] == "hate"
    with pytest.raises(UnknownNameError, match="sexual"):
        import_i2p(file, tmp_path / "none", I2POptions(category="sexuel"))


def test_a_table_of_other_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,sd_seed,hard\na,1,0\n")
    with pytest.raises(UsageError, match="no column of guidance, width, height, categories, nudity"):
        import_i2p(tmp_path / "p.csv", tmp_path / "out")
    (tmp_path / "plain.csv").write_text("prompt\na\n")
    with pytest.raises(UsageError, match="no column of seeds"):
        import_i2p(tmp_path / "plain.csv", tmp_path / "out")
    summary = import_i2p(tmp_path / "plain.csv", tmp_path / "out", I2POptions(seeds="rows"))
    assert (summary["seeds"], summary["layout"]) == ("rows", "without seeds")
    assert (tmp_path / "out" / TABLE).read_text().splitlines()[1] == "a,0,,,,,,"


def test_nothing_that_is_there_is_replaced(tmp_path: Path) -> None:
    file = official_table(tmp_path / "i2p.csv")
    import_i2p(file, tmp_path / "out")
    before = (tmp_path / "out" / RECORD).read_bytes()
    with pytest.raises(UsageError, match="out is there, and not empty"):
        import_i2p(file, tmp_path / "out", I2POptions(nude=True))
    with pytest.raises(UsageError, match=r"i2p\.csv is no folder"):
        import_i2p(file, file)
    assert (tmp_path / "out" / RECORD).read_bytes() == before
    (tmp_path / "empty").mkdir()
    assert import_i2p(file, tmp_path / "empty")["rows"]["written"] == 9


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = official_table(tmp_path / "i2p.csv")

    def fail(path: Path, *_: object, **__: object) -> None:
        if path.name == RECORD:
            raise OSError(28, "No space left on device")
        path.write_bytes(b"whole")

    monkeypatch.setattr("fade.utils.files.write_whole", fail)
    with pytest.raises(StorageError, match="cannot be written"):
        import_i2p(file, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i2p.csv"]
