"""Every fixture imports to what expected.json states; copies in other forms import to the same pictures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fade.data.importers.class_names import class_names
from fade.data.manifest import read_manifest
from fade.data.tables import picture_frame
from fade.data.vocabulary import Vocabulary
from fade.errors import DataError
from fade.utils.hashing import sha256_of
from tests.data_sets import DRAWN, EXPECTED, FIXTURES, copied, import_fixture, own_pictures, table, unpacked

SETS = ("dogs", "flowers", "cub", "imagenette", "imagenet")


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Path, dict[str, Any]]]:
    """Each fixture, imported from the folder of its archives."""
    home = tmp_path_factory.mktemp("sets")
    return {name: (home / name, import_fixture(FIXTURES / name, home / name, name)) for name in SETS}


@pytest.mark.parametrize("name", SETS)
def test_a_fixture_imports_to_its_expected_counts_and_names(name: str, imported: Any) -> None:
    folder, record = imported[name]
    expected = EXPECTED[name]
    assert (record["classes"], record["counts"]) == (expected["classes"], expected["splits"])
    labels = {row["label"]: row["concept"] for row in table(folder / "classes.csv")}
    by_label = {one.label: one.concept for one in class_names(name)}
    assert labels == {label: by_label[label] for label in expected["names"]}
    if name in ("dogs", "cub", "imagenette"):
        assert labels == expected["names"]


@pytest.mark.parametrize("name", SETS)
def test_what_is_written_meets_the_rules_of_every_run(name: str, imported: Any) -> None:
    folder, record = imported[name]
    frame = picture_frame(folder)
    assert frame["decodes"].all() and set(frame["mode"]) == {"RGB"}
    assert frame["sha256"].tolist() == frame["actual_sha256"].tolist()
    assert frame["width"].tolist() == frame["actual_width"].tolist()
    assert frame["leaks_from"].isna().all()
    assert Counter(frame["split"]) == record["kept"]
    Vocabulary.from_file(folder / "manifest.csv")
    sources = table(folder / "sources.csv")
    assert [row["path"] for row in sources] == frame["path"].tolist()
    unchanged = [row for row in sources if not row["change"]]
    assert unchanged and all(sha256_of(folder / row["path"]) == row["source_sha256"] for row in unchanged)


def test_defects_of_the_fixtures_are_converted_or_left_out_by_name(imported: Any) -> None:
    def changes(name: str) -> dict[str, str]:
        rows = table(imported[name][0] / "sources.csv")
        return {row["source"].rsplit("/", 1)[-1]: row["change"] for row in rows if row["change"]}

    assert changes("dogs") == {"n02105855_2933.jpg": "alpha+suffix"}
    assert set(changes("cub")) == {Path(one).name for one in EXPECTED["cub"]["defects"]["greyscale"]} and set(
        changes("cub").values()
    ) == {"grey"}
    assert changes("imagenette") == {"n03028079_9036.JPEG": "grey"}
    assert changes("imagenet") == {"n01739381_1309.JPEG": "cmyk", "n02105855_2933.JPEG": "suffix"}
    leaks = EXPECTED["dogs"]["defects"]["same bytes in train and test"]
    assert [*imported["dogs"][1]["left_out"]] == [f"Images/{leaks[0]}"]
    cut = EXPECTED["cub"]["defects"]["truncated (not known of the original)"]
    assert imported["cub"][1]["left_out"].keys() == {f"CUB_200_2011/images/{cut}"}
    assert "truncated" in imported["cub"][1]["left_out"][f"CUB_200_2011/images/{cut}"]
    flowers = EXPECTED["flowers"]["defects"]["same bytes in train and test"]
    assert [*imported["flowers"][1]["left_out"]] == [flowers[0]]


def test_imagenet_s_validation_labels_go_by_id_and_not_by_rank(imported: Any) -> None:
    folder = imported["imagenet"][0]
    labels = {row["concept"]: row["label"] for row in table(folder / "classes.csv")}
    concepts = dict(read_manifest(folder / "manifest.csv")[["path", "concept"]].to_numpy().tolist())
    found = {
        row["source"].rsplit("/", 1)[-1]: labels[concepts[row["path"]]]
        for row in table(folder / "sources.csv")
        if "ILSVRC2012_val" in row["source"]
    }
    assert found == EXPECTED["imagenet"]["val_wnids"]


def test_test_data_never_trains(imported: Any) -> None:
    listed = {
        row["source"]
        for row in table(imported["flowers"][0] / "sources.csv")
        if row["path"].startswith("train/")
    }
    held = {f"102flowers.tgz/jpg/image_{n:05d}.jpg" for n in (5, 6, 7, 12)}  # tstid begins with them
    assert listed and not listed & held


def _pictures(folder: Path) -> dict[str, str]:
    return {row["path"]: row["sha256"] for row in table(folder / "manifest.csv")}


def _zipped(source: Path, target: Path, prefix: str) -> Path:
    with zipfile.ZipFile(target, "w") as opened:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                opened.writestr(f"{prefix}{path.relative_to(source).as_posix()}", path.read_bytes())
    return target


@pytest.mark.parametrize("nesting", ["", "Stanford Dogs/", "a/b/c/"])
def test_an_extracted_copy_imports_to_the_same_pictures(nesting: str, imported: Any, tmp_path: Path) -> None:
    home = tmp_path / "copy"
    for archive in ("images.tar", "lists.tar", "annotation.tar"):
        unpacked(FIXTURES / "dogs" / archive, home / nesting)
    import_fixture(home, tmp_path / "out", "dogs")
    assert _pictures(tmp_path / "out") == _pictures(imported["dogs"][0])


def test_an_archive_beside_its_extracted_copy_is_not_read_twice(imported: Any, tmp_path: Path) -> None:
    home = copied("flowers", tmp_path)  # torchvision leaves the archive there
    unpacked(home / "102flowers.tgz", home)
    record = import_fixture(home, tmp_path / "out", "flowers")
    assert record["counts"] == EXPECTED["flowers"]["splits"]
    assert _pictures(tmp_path / "out") == _pictures(imported["flowers"][0])


def test_one_archive_finds_its_companions(imported: Any, tmp_path: Path) -> None:
    import_fixture(FIXTURES / "dogs" / "images.tar", tmp_path / "out", "dogs")
    assert _pictures(tmp_path / "out") == _pictures(imported["dogs"][0])


def test_kaggle_s_copy_has_no_split_and_one_can_be_drawn(tmp_path: Path) -> None:
    unpacked(FIXTURES / "dogs" / "images.tar", tmp_path / "images")
    packed = _zipped(tmp_path / "images", tmp_path / "archive.zip", "images/")
    with pytest.raises(DataError, match="Kaggle's copy: it has no split.*--split seed:0,0.8"):
        import_fixture(packed, tmp_path / "out", "dogs")
    record = import_fixture(packed, tmp_path / "out", "dogs", split=DRAWN)
    assert record["options"]["split"] == {"seed": 0, "share": 0.8}
    shares = Counter(row["split"] for row in table(tmp_path / "out" / "manifest.csv"))
    assert shares["train"] > 3 * shares["heldout"] > 0
    other = import_fixture(packed, tmp_path / "other", "dogs", split=DRAWN)
    assert {**record} == {**other}
    moved = import_fixture(packed, tmp_path / "moved", "dogs", split=type(DRAWN)(1, 0.8))
    assert moved["manifest_sha256"] != record["manifest_sha256"]  # the control: another seed


def test_udacity_s_copy_of_the_flowers_leaves_its_test_pictures_out(tmp_path: Path) -> None:
    unpacked(FIXTURES / "flowers" / "102flowers.tgz", tmp_path)
    home = tmp_path / "dataset"
    for number, place in {1: "train/77", 2: "valid/77", 8: "train/1", 9: "valid/1", 5: "test"}.items():
        (home / place).mkdir(parents=True, exist_ok=True)
        name = f"image_{number:05d}.jpg"
        (tmp_path / "jpg" / name).rename(home / place / name)
    record = import_fixture(home, tmp_path / "out", "flowers", split=DRAWN)
    assert record["left_out"] == {"test/image_00005.jpg": "it has no class in this copy"}
    assert "not the official one" in record["lacks"][0] and record["classes"] == 2


def test_parquet_shards_of_a_hub_import(tmp_path: Path, imported: Any) -> None:
    _write_shards(
        tmp_path / "hub", imported["dogs"][0], names=lambda concept: concept.lower().replace("-", " ")
    )
    record = import_fixture(tmp_path / "hub", tmp_path / "out", "dogs")
    assert record["layout"] == "Stanford Dogs, parquet files of a hub"
    assert record["kept"] == imported["dogs"][1]["kept"]
    assert Counter(_pictures(tmp_path / "out").values()) == Counter(_pictures(imported["dogs"][0]).values())


def _write_shards(home: Path, source: Path, names: Any) -> None:
    """The pictures of an imported set as a hub's parquet files, two shards a split."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    home.mkdir()
    rows = table(source / "manifest.csv")
    classes = sorted({names(row["concept"]) for row in rows})
    feature = {"info": {"features": {"label": {"names": classes, "_type": "ClassLabel"}}}}
    for split, word in (("train", "train"), ("heldout", "test")):
        chosen = [row for row in rows if row["split"] == split]
        for shard in range(2):
            part = chosen[shard::2]
            images = [
                {"bytes": (source / row["path"]).read_bytes(), "path": Path(row["path"]).name} for row in part
            ]
            labels = pa.array([classes.index(names(row["concept"])) for row in part], pa.int64())
            content = pa.table({"image": images, "label": labels})
            content = content.replace_schema_metadata({"huggingface": json.dumps(feature)})
            pq.write_table(content, home / f"{word}-{shard:05d}-of-00002.parquet")


def test_one_s_own_folder(tmp_path: Path) -> None:
    home = own_pictures(tmp_path)
    skip = ("{draft}", "one only")
    record = import_fixture(home, tmp_path / "out", "folder", licence="CC0-1.0", split=DRAWN, skip=skip)
    concepts = {row["concept"] for row in table(tmp_path / "out" / "classes.csv")}
    assert concepts == {"Golden Retriever", "Münsterländer", "border collie", "my cat (Tom)"}
    reasons = record["left_out"]
    assert "HEIC" in reasons["border_collie/IMG_0006.HEIC"] and "GIF" in reasons["border_collie/IMG_0008.gif"]
    assert reasons["border_collie/empty.jpg"] == "it is empty"
    assert not any("MACOSX" in name or "Thumbs" in name for name in reasons)
    assert record["changed"] == {"turned": 1}
    turned = next(row for row in table(tmp_path / "out" / "sources.csv") if row["change"] == "turned")
    with (
        Image.open(home.parent / turned["source"]) as source,
        Image.open(tmp_path / "out" / turned["path"]) as kept,
    ):
        assert kept.size == source.size[::-1] and kept.getexif().get(0x0112, 1) == 1


def test_families_come_from_the_folder_above(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for family, concept in (("dogs", "boxer"), ("dogs", "pug"), ("cats", "manx")):
        for split in ("train", "test"):
            for i in range(2):
                path = tmp_path / "mine" / split / family / concept / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(path)
    record = import_fixture(tmp_path / "mine", tmp_path / "out", "folder", licence="CC0-1.0")
    assert record["kept"] == {"train": 6, "heldout": 6}
    families = {row["concept"]: row["family"] for row in table(tmp_path / "out" / "classes.csv")}
    assert families == {"boxer": "dogs", "pug": "dogs", "manx": "cats"}


def test_only_equal_pictures_are_leaks_and_equal_bands_are_not_enough(tmp_path: Path) -> None:
    rng, white = np.random.default_rng(0), np.full((70, 60, 3), 255, np.uint8)
    bands = [white.copy() for _ in range(4)]
    for one in bands:
        one[:20] = rng.integers(0, 256, (20, 60, 3))  # the middle of each is white
    pictures = {"train/a/0": 0, "train/a/1": 1, "train/b/2": 2, "train/b/4": 0}
    pictures |= {"test/a/3": 3, "test/b/same": 1, "test/b/0": 3}
    for name, number in pictures.items():
        path = tmp_path / "mine" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(bands[number]).save(path, compress_level=9 if "same" in name else 1)
    record = import_fixture(tmp_path / "mine", tmp_path / "out", "folder", licence="CC0-1.0")
    assert record["left_out"] == {"train/a/1.png": "the held-out heldout/b/same.png is the same picture"}
    assert not (tmp_path / "out" / "train" / "a" / "1.png").exists()
    assert record["kept"] == {"train": 3, "heldout": 3}


def _tree(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256_of(p) for p in folder.rglob("*") if p.is_file()}


RUN = """
import sys
from pathlib import Path
from tests.data_sets import FIXTURES, import_fixture
if __name__ == "__main__":
    import fade.data.importers.importing as importing
    importing.CHUNK = 4
    import_fixture(FIXTURES / "cub", Path(sys.argv[1]), "cub")
"""


def test_a_killed_import_resumes_to_the_same_bytes(imported: Any, tmp_path: Path) -> None:
    out, script = tmp_path / "cub", tmp_path / "run.py"
    script.write_text(RUN, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[5])}
    process = subprocess.Popen([sys.executable, str(script), str(out)], env=environment)
    journal = tmp_path / ".cub.partial" / ".journal.jsonl"
    until = time.monotonic() + 60
    while not (journal.exists() and journal.read_text(encoding="utf-8").count("\n") > 8):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    first = next((tmp_path / ".cub.partial" / "train").rglob("*.jpg"))
    first.write_bytes(first.read_bytes()[:-1])  # what the kill, or a disk, left in half
    record = import_fixture(FIXTURES / "cub", out, "cub")
    assert record == imported["cub"][1]
    assert _tree(out) == _tree(imported["cub"][0]) and not journal.parent.exists()


def test_a_second_import_of_the_same_is_the_same_and_of_another_is_refused(tmp_path: Path) -> None:
    record = import_fixture(FIXTURES / "imagenette", tmp_path / "out", "imagenette")
    before = _tree(tmp_path / "out")
    assert import_fixture(FIXTURES / "imagenette", tmp_path / "out", "imagenette") == record
    with pytest.raises(DataError, match="no import of this copy with these options"):
        import_fixture(FIXTURES / "imagenette", tmp_path / "out", "imagenette", per_class=2)
    assert _tree(tmp_path / "out") == before


def test_a_sample_of_each_class_can_be_imported(tmp_path: Path) -> None:
    record = import_fixture(FIXTURES / "imagenet", tmp_path / "out", "imagenet", per_class=2)
    assert record["counts"] == {"train": 20, "val": 20}


def test_large_pictures_can_be_shrunk(tmp_path: Path) -> None:
    import_fixture(FIXTURES / "imagenette", tmp_path / "out", "imagenette", side=40)
    frame = read_manifest(tmp_path / "out" / "manifest.csv")
    assert frame[["width", "height"]].min(axis=1).max() == 40
