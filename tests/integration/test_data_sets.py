"""`fade data check` and `fade data track`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fade.config import ChecksConfig, DataConfig
from fade.data.importers.verify import Findings, reference_file, verify_set
from fade.data.tables import picture_frame
from fade.errors import DataError, UsageError
from tasks.data.check_set import check_set
from tasks.data.track import track_set
from tests.data_sets import DRAWN, FIXTURES, import_fixture, own_pictures

CHECKS = ChecksConfig(min_per_concept=2, min_std=1.0)


@pytest.fixture
def dogs(tmp_path: Path) -> Path:
    """Imported."""
    import_fixture(FIXTURES / "dogs", tmp_path / "sets" / "dogs", "dogs")
    return tmp_path / "sets" / "dogs"


def verified(folder: Path) -> Findings:
    return verify_set(folder, picture_frame(folder))


def findings(folder: Path) -> Mapping[str, str]:
    return verified(folder).sentences


def test_an_import_meets_the_rules_and_says_what_it_is(dogs: Path, tmp_path: Path) -> None:
    result = check_set(dogs, CHECKS, tmp_path / "runs")
    assert result["success"], result
    found: dict[str, Any] = result["findings"]
    assert found["pictures"] == "69, all as the manifest has them"
    assert found["counts"] == "train 40 of 12,000, test 30 of 8,580"
    assert "images.tar" in found["archives"]
    assert Path(result["page"]).is_file()


def test_a_changed_a_missing_and_a_further_file_are_found(dogs: Path, tmp_path: Path) -> None:
    first = next((dogs / "train").rglob("*.jpg"))
    content = first.read_bytes()
    for spoil in (lambda: first.write_bytes(content + b"x"), first.unlink):
        spoil()
        assert "1 of 69 are missing or changed" in findings(dogs)["pictures"]
        assert not check_set(dogs, CHECKS, tmp_path / "runs")["success"]
    first.write_bytes(content)
    (dogs / "train" / "new.jpg").write_bytes(content)
    assert "1 files are in no manifest, as train/new.jpg" in findings(dogs)["over"]
    manifest = dogs / "manifest.csv"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace(",train\n", ",heldout\n", 1), "utf-8")
    assert findings(dogs)["record"] == "the manifest is not import.json's"


def test_a_second_check_decodes_a_sample_alone_and_finds_what_was_kept_wrongly(
    dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fade.data.measurements.SAMPLE", 5)
    texts = [check_set(dogs, CHECKS, tmp_path / "runs")["findings"]["measured"] for _ in range(3)]
    assert texts == [
        "69 pictures decoded",
        *(f"5 pictures decoded, 5 of them again (seed {n}): no difference" for n in (1, 2)),
    ]
    (kept,) = (tmp_path / "runs" / "cache" / "measured").iterdir()
    kept.write_text(re.sub('"actual_width":[0-9]+', '"actual_width":1', kept.read_text("utf-8")), "utf-8")
    result = check_set(dogs, CHECKS, tmp_path / "runs")
    assert result["success"] and "all measured again" in result["findings"]["measured"]
    assert '"actual_width":1,' not in kept.read_text("utf-8")


def test_a_set_that_may_not_be_passed_on_is_tracked_by_reference(dogs: Path, tmp_path: Path) -> None:
    made = track_set(dogs, DataConfig(), tmp_path, tmp_path / "runs")
    assert [Path(one).name for one in made["commit"]] == ["dogs.reference.json", ".gitignore"]
    assert (dogs.parent / ".gitignore").read_text(encoding="utf-8") == "/dogs\n"
    text = reference_file(dogs).read_text(encoding="utf-8")
    assert "manifest_sha256" in text and "tester" not in text and str(tmp_path) not in text
    assert findings(dogs)["team"] == "it is the team's, byte for byte"

    member = tmp_path / "member" / "dogs"
    import_fixture(FIXTURES / "dogs", member, "dogs")
    reference_file(member).write_text(text, encoding="utf-8")
    assert verified(member).success
    other = tmp_path / "other" / "dogs"
    import_fixture(FIXTURES / "dogs", other, "dogs", split=DRAWN)
    reference_file(other).write_text(text, encoding="utf-8")
    assert not verified(other).success
    assert "options" in findings(other)["team"] and "manifest_sha256" in findings(other)["team"]


def test_pushing_such_a_set_needs_a_private_remote(dogs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"LicenseRef-ImageNet may not be passed on.*data.private_remotes"):
        track_set(dogs, DataConfig(remote="public"), tmp_path, tmp_path / "runs", push=True)
    assert [one.name for one in dogs.parent.iterdir()] == ["dogs"]


def test_one_s_own_pictures_get_a_dvc_file_of_their_own(tmp_path: Path) -> None:
    from dvc.repo import Repo

    project = tmp_path / "project"
    project.mkdir()
    Repo.init(str(project), no_scm=True).close()
    store = f"['remote \"team\"']\n    url = {tmp_path / 'store'}\n"
    (project / ".dvc" / "config").write_text(f"[core]\n    no_scm = true\n{store}", encoding="utf-8")
    skip = ("{draft}", "one only")
    home = own_pictures(tmp_path)
    mine = project / "sets" / "mine"
    import_fixture(home, mine, "folder", licence="CC0-1.0", split=DRAWN, skip=skip)
    data = DataConfig(dvc_file=(Path("sets/mine.dvc"),), remote="team", images=Path("sets/mine"))
    made = track_set(mine, data, project, tmp_path / "runs", push=True)
    assert [Path(one).name for one in made["commit"]] == ["mine.dvc", ".gitignore"]
    assert (mine.parent / ".gitignore").read_text(encoding="utf-8") == "/mine\n"
    pictures = json.loads((mine / "import.json").read_text(encoding="utf-8"))["kept"]
    stored = [one for one in (tmp_path / "store").rglob("*") if one.is_file()]
    assert len(stored) >= sum(pictures.values())


def test_a_folder_that_is_no_import_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no imported data set"):
        track_set(tmp_path, DataConfig(), tmp_path, tmp_path / "runs")
