"""Great Expectations on real files: each planted fault fires its own expectation and no other; a clean set
passes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fade.config import ChecksConfig, DataConfig
from fade.data.manifest import MANIFEST
from fade.data.tables import concept_frame, file_frame, picture_frame
from fade.errors import DataError
from tasks import aside
from tasks.checked import check_data, check_mined, look_ahead
from tasks.data import validate
from tasks.data.expectations import (
    concept_rules,
    count_rules,
    file_rules,
    latent_rules,
    mined_rules,
    picture_rules,
)
from tasks.data.validate import Checks, ValidationTable, run_rules, validate_data, validate_mined
from tests.datasets import make_dataset, rehash, save, write_manifest

# Great Expectations imports two modules that Python has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:module 'sre_:DeprecationWarning")

CHECKS = ChecksConfig(min_per_concept=2, size=8)
NOISE = np.random.default_rng(7).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)


def run(folder: Path, checks: ChecksConfig = CHECKS, **more: object) -> Checks:
    return validate_data(DataConfig(images=folder / "data"), checks, out=folder / "checks", **more)  # type: ignore[arg-type]


def results(folder: Path, stem: str = "data") -> dict[str, dict[str, object]]:
    return {r["name"]: r for r in json.loads((folder / "checks" / f"{stem}.json").read_text())["results"]}


def fired(found: dict[str, dict[str, object]]) -> set[str]:
    return {name for name, result in found.items() if not result["success"]}


def test_a_clean_set_passes_at_least_fourteen_expectations(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data")
    checks = run(tmp_path, names=["panda", "koala", "tulip", "rose"])
    assert checks.success and not checks.critical
    assert len({(r["name"], r["type"]) for r in checks.results}) >= 14
    assert {r["severity"] for r in checks.results} == {"critical", "warning"}
    assert not [r for r in checks.results if r["rows"] or r["error"]]
    assert "All 26 checks passed" in checks.page.read_text()


# name of the fault -> (what is done to the folder and its manifest, the one expectation that fires, a row it
# names)
Fault = tuple[Callable[[Path, pd.DataFrame], None], str, str]
PANDA = "noto/panda.png"


def _set(column: str, value: object, where: str = PANDA) -> Callable[[Path, pd.DataFrame], None]:
    def plant(folder: Path, frame: pd.DataFrame) -> None:
        frame.loc[frame["path"] == where, column] = value
        write_manifest(folder, frame)

    return plant


def _picture(pixels: np.ndarray, mode: str = "RGB", **columns: int) -> Callable[[Path, pd.DataFrame], None]:
    def plant(folder: Path, frame: pd.DataFrame) -> None:
        save(folder / PANDA, pixels, mode)
        for column, value in columns.items():
            frame.loc[frame["path"] == PANDA, column] = value
        rehash(folder, frame)

    return plant


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[Path, pd.DataFrame], None]:
    def plant(folder: Path, frame: pd.DataFrame) -> None:
        (folder / PANDA).write_bytes(change((folder / PANDA).read_bytes()))
        rehash(folder, frame)

    return plant


def _copy(to: str) -> Callable[[Path, pd.DataFrame], None]:
    def plant(folder: Path, frame: pd.DataFrame) -> None:
        (folder / to).write_bytes((folder / PANDA).read_bytes())
        rehash(folder, frame)

    return plant


def _listed_twice(folder: Path, frame: pd.DataFrame) -> None:
    write_manifest(folder, pd.concat([frame, frame.iloc[[0]]]))


def _missing(folder: Path, frame: pd.DataFrame) -> None:
    (folder / PANDA).unlink()


def _same_pixels_other_bytes(folder: Path, frame: pd.DataFrame) -> None:
    Image.open(folder / PANDA).save(folder / PANDA, compress_level=0)


def _too_few(folder: Path, frame: pd.DataFrame) -> None:
    (folder / PANDA).unlink()
    write_manifest(folder, frame[frame["path"] != PANDA])


def _same_slug(folder: Path, frame: pd.DataFrame) -> None:
    frame.loc[frame["concept"] == "koala", "concept"] = "Panda!"
    write_manifest(folder, frame)


def _stray(folder: Path, frame: pd.DataFrame) -> None:
    save(folder / "noto/stray.png", NOISE[0])


CRITICAL: dict[str, Fault] = {
    "path listed twice": (_listed_twice, "path-unique", PANDA),
    "missing file": (_missing, "exists", PANDA),
    "truncated": (_bytes(lambda b: b[: len(b) // 2]), "decodes", PANDA),
    "not a picture": (_bytes(lambda b: b"GIF89a"), "decodes", PANDA),
    "empty file": (_bytes(lambda b: b""), "decodes", PANDA),
    "grey": (_picture(NOISE[0], "L"), "mode", PANDA),
    "with alpha": (_picture(NOISE[0], "RGBA"), "mode", PANDA),
    "too wide": (_picture(np.resize(NOISE, (8, 9, 3)), width=9), "width", PANDA),
    "too high": (_picture(np.resize(NOISE, (9, 8, 3)), height=9), "height", PANDA),
    "width misstated": (_set("width", 7), "manifest-width", PANDA),
    "height misstated": (_set("height", 7), "manifest-height", PANDA),
    "other bytes": (_same_pixels_other_bytes, "sha256", PANDA),
    "hash misstated": (_set("sha256", "0" * 64), "sha256", PANDA),
    "blank": (_picture(np.full((8, 8, 3), 255, np.uint8)), "not-blank", PANDA),
    "in two splits": (_copy("twemoji/rose.png"), "no-leak", "twemoji/rose.png"),
    "share-alike licence": (_set("licence", "CC-BY-SA-4.0"), "licence", PANDA),
    "no licence": (_set("licence", ""), "licence", PANDA),
    "unknown split": (_set("split", "validation", "twemoji/panda.png"), "split", "twemoji/panda.png"),
    "braces in a concept": (
        lambda f, m: write_manifest(f, m.replace({"concept": {"koala": "{koala}"}})),
        "concept",
        "noto/koala.png",
    ),
    "blank at the end": (
        lambda f, m: write_manifest(f, m.replace({"concept": {"koala": "koala "}})),
        "concept",
        "noto/koala.png",
    ),
    "nameless concept": (
        lambda f, m: write_manifest(f, m.replace({"concept": {"koala": ""}})),
        "concept",
        "noto/koala.png",
    ),
    "no family": (lambda f, m: write_manifest(f, m.replace({"family": {"bears": ""}})), "family", PANDA),
    "no style": (_set("style", ""), "style", PANDA),
    "too few drawings": (_too_few, "min-per-concept", "panda"),
    "two families": (_set("family", "flowers"), "one-family", "panda"),
    "names that share a folder": (_same_slug, "slug-unique", "Panda!"),
}
WARNINGS: dict[str, Fault] = {
    "same drawing twice": (_copy("fluent/koala.png"), "no-duplicate", "fluent/koala.png"),
    "no package": (_set("package", ""), "package", PANDA),
    "no version": (_set("version", " "), "version", PANDA),
    "stray file": (_stray, "unlisted", "noto/stray.png"),
}


@pytest.mark.parametrize("fault", CRITICAL)
def test_a_critical_fault_stops_and_is_named(tmp_path: Path, fault: str) -> None:
    plant, name, row = CRITICAL[fault]
    plant(tmp_path / "data", make_dataset(tmp_path / "data"))
    with pytest.raises(
        DataError, match=rf"^validate: {name} \(.*\) fails for .*{re.escape(row)}.*Next: .*data\.html"
    ):
        run(tmp_path)
    found = results(tmp_path)
    assert fired(found) == {name}
    assert found[name]["severity"] == "critical"
    assert row in (tmp_path / "checks/data.html").read_text()


@pytest.mark.parametrize("fault", WARNINGS)
def test_a_warning_does_not_stop(tmp_path: Path, fault: str) -> None:
    plant, name, row = WARNINGS[fault]
    plant(tmp_path / "data", make_dataset(tmp_path / "data"))
    checks = run(tmp_path)
    assert not checks.success and not checks.critical
    found = results(tmp_path)
    assert fired(found) == {name} and found[name]["severity"] == "warning"
    assert [r["row"] for r in found[name]["rows"]] == [row]  # type: ignore[attr-defined]
    assert "No critical fault; 1 warning" in checks.page.read_text()


def test_a_concept_outside_the_vocabulary(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data")
    with pytest.raises(
        DataError, match=r"vocabulary \(.*\) fails for noto/rose.png \(rose\), fluent/rose.png"
    ):
        run(tmp_path, names=["panda", "koala", "tulip"])
    assert fired(results(tmp_path)) == {"vocabulary"}


def test_other_columns_and_no_rows_fire_too(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    frame = picture_frame(tmp_path)
    changed = frame.assign(colour="red")
    rules = picture_rules(CHECKS)
    assert {
        r["name"] for r in run_rules({"p": ValidationTable(changed, "path", rules)}) if not r["success"]
    } == {"columns"}
    assert {
        r["name"]
        for r in run_rules({"p": ValidationTable(frame.iloc[:0], "path", rules)})
        if not r["success"]
    } == {"not-empty"}


def test_a_column_that_is_gone_fails_with_its_name(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    found = run_rules(
        {"p": ValidationTable(picture_frame(tmp_path).drop(columns="licence"), "path", picture_rules(CHECKS))}
    )
    failed = {r["name"]: r for r in found if not r["success"]}
    assert set(failed) == {"columns", "licence"} and '"licence"' in failed["licence"]["error"]


def test_every_rule_has_a_fault_that_was_planted() -> None:
    pictures = {r.name for r in [*picture_rules(CHECKS, []), *concept_rules(CHECKS), *file_rules()]}
    assert pictures == {f[1] for f in [*CRITICAL.values(), *WARNINGS.values()]} | {
        "vocabulary",
        "columns",
        "not-empty",
    }
    mined = {r.name for r in [*mined_rules(CHECKS), *count_rules(CHECKS), *latent_rules()]}
    assert mined == {f[1] for f in MINED.values()} | {"columns"}


def test_many_faults_are_counted_not_all_listed(tmp_path: Path) -> None:
    frame = make_dataset(tmp_path / "data")
    write_manifest(
        tmp_path / "data",
        frame.assign(licence="unknown", split=frame["split"].where(frame["path"] != PANDA, "x")),
    )
    with pytest.raises(DataError, match=r"licence .* and 7 more; split .* fails for noto/panda\.png \(x\)"):
        run(tmp_path)


def test_an_unreadable_manifest_leaves_the_last_verdict(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data")
    run(tmp_path)
    before = (tmp_path / "checks/data.json").read_bytes()
    (tmp_path / "data" / MANIFEST).write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        run(tmp_path)
    assert (tmp_path / "checks/data.json").read_bytes() == before


def test_the_page_is_self_contained(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data")
    page = run(tmp_path).page.read_text()
    assert not re.findall(r"https?:|//[a-z]|src=|href=|<script|<link|@import|url\(", page)
    for result in results(tmp_path).values():
        assert str(result["name"]) in page and str(result["type"]) in page
    assert not list((tmp_path / "checks").glob("*.tmp"))


# The pictures that were mined.

NAMES = ["panda"] * 4 + ["koala"] * 4


def generated(**changes: object) -> dict[str, object]:
    counts, confidences = {"panda": 4, "koala": 4}, {"panda": 0.9, "koala": 0.8}
    given = {
        "pictures": NOISE[:8],
        "concepts": NAMES,
        "counts": counts,
        "confidences": confidences,
        "finite": True,
    }
    return {**given, **changes}


def mined(folder: Path, **changes: object) -> Checks:
    return validate_mined(**generated(**changes), checks=CHECKS, out=folder / "checks")  # type: ignore[arg-type]


def _with(index: int, pixels: np.ndarray) -> np.ndarray:
    pictures = NOISE[:8].copy()
    pictures[index] = pixels
    return pictures


MINED: dict[str, tuple[dict[str, object], str, str, bool]] = {
    "blank": ({"pictures": _with(5, np.zeros((8, 8, 3), np.uint8))}, "not-blank", "koala #1", True),
    "duplicate": ({"pictures": _with(3, NOISE[1])}, "no-duplicate", r"panda #3 \(panda #1\)", True),
    "too few": ({"counts": {"panda": 4, "koala": 5}}, "counts", "koala", True),
    "none at all": (
        {
            "counts": {"panda": 4, "koala": 4, "rose": 4},
            "confidences": {"panda": 1.0, "koala": 1.0, "rose": 1.0},
        },
        "counts",
        "rose",
        True,
    ),
    "not asked for": ({"counts": {"panda": 4}}, "counts", "koala", True),
    "nan": ({"finite": False}, "finite", "mined latents", True),
    "doubtful": ({"confidences": {"panda": 0.9, "koala": 0.2}}, "confidence", "koala", False),
    "confidence nan": (
        {"confidences": {"panda": 0.9, "koala": float("nan")}},
        "confidence-known",
        "koala",
        False,
    ),
    "confidence unsaid": ({"confidences": {"panda": 0.9}}, "confidence-known", "koala", False),
}


def test_clean_mined_pictures_pass(tmp_path: Path) -> None:
    checks = mined(tmp_path)
    assert checks.success and checks.page.name == "mined.html"


@pytest.mark.parametrize("fault", MINED)
def test_faults_of_mined_pictures(tmp_path: Path, fault: str) -> None:
    changes, name, row, critical = MINED[fault]
    if critical:
        with pytest.raises(DataError, match=rf"^validate mined: {name} \(.*\) fails for {row}"):
            mined(tmp_path, **changes)
    else:
        assert not mined(tmp_path, **changes).success
    found = results(tmp_path, "mined")
    assert fired(found) == {name}
    assert found[name]["severity"] == ("critical" if critical else "warning")


def test_alike_pictures_of_two_concepts_are_no_fault(tmp_path: Path) -> None:
    assert mined(tmp_path, pictures=_with(4, NOISE[0])).success


def test_as_many_names_as_pictures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="8 pictures for 7 names"):
        mined(tmp_path, concepts=NAMES[:7])


def test_frames_are_not_changed_by_the_rules(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    pictures = picture_frame(tmp_path)
    before = pictures.copy()
    run_rules({"p": ValidationTable(pictures, "path", picture_rules(CHECKS)), "c": ValidationTable(concept_frame(pictures), "concept", concept_rules(CHECKS)),
               "f": ValidationTable(file_frame(tmp_path, pictures["path"]), "path", file_rules())})  # fmt: skip
    pd.testing.assert_frame_equal(pictures, before)


def test_another_process_comes_to_the_same_verdict(tmp_path: Path) -> None:
    """On data with a warning, on generated pictures, and on data with a fault; the controls are the verdicts
    of this process."""
    frame = make_dataset(tmp_path / "data")
    (tmp_path / "data" / "unlisted.txt").write_text("x")
    data, torn, there = (
        DataConfig(images=tmp_path / "data"),
        tmp_path / "data" / frame["path"][3],
        tmp_path / "there" / "checks",
    )
    here = [run(tmp_path).results, mined(tmp_path).results]
    aside.begin("tasks.data.validate")
    try:
        checks = check_data(data, CHECKS, out=there)
        assert [checks.results, check_mined(**generated(), checks=CHECKS, out=there).results] == here  # type: ignore[arg-type]
        assert (checks.success, checks.critical, checks.page) == (False, False, there / "data.html")
        assert checks.page.read_bytes() == (tmp_path / "checks" / "data.html").read_bytes()
        look_ahead(data, CHECKS, Path(), None)
        torn.write_bytes(torn.read_bytes()[:40])
        with pytest.raises(DataError, match=torn.name) as over_there:
            check_data(data, CHECKS, out=tmp_path / "checks")
        assert aside._aside is not None, "none of it was done here"
    finally:
        aside.end()
    with pytest.raises(DataError) as alone:
        run(tmp_path)
    assert str(over_there.value) == str(alone.value)


def test_what_was_looked_at_ahead_holds_for_the_same_question_while_nothing_was_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a second look is counted; the fault that is planted keeps the file's size and its time."""
    frame = make_dataset(tmp_path / "data")
    data, names = DataConfig(images=tmp_path / "data"), ["panda", "koala", "tulip", "rose"]
    once, looks = run(tmp_path, names=names), []
    page = once.page.read_bytes()
    monkeypatch.setattr(validate, "_ahead", validate.Ahead())
    monkeypatch.setattr(validate, "run_rules", lambda batches: looks.append(1) or run_rules(batches))
    given = {"data": data.model_dump(mode="json"), "checks": CHECKS.model_dump(mode="json"), "root": "."}
    validate.look_ahead(**given, names=names)
    assert looks == [1]
    assert run(tmp_path, names=names).results == once.results and once.page.read_bytes() == page
    assert looks == [1]
    run(tmp_path)
    run(tmp_path, ChecksConfig(min_per_concept=1, size=8), names=names)
    assert looks == [1, 1, 1]

    one, other = (tmp_path / "data" / name for name in frame["path"][:2])
    before = one.stat()
    body = bytearray(one.read_bytes())
    body[-20] ^= 1
    one.write_bytes(body)
    os.utime(one, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataError, match=one.name):
        run(tmp_path, names=names)
    validate.look_ahead(**given, names=names)  # a verdict is not kept, only what was seen
    with pytest.raises(DataError, match=one.name):
        run(tmp_path, names=names)
    assert looks == [1, 1, 1, 1, 1]
    other.unlink()
    with pytest.raises(DataError, match=other.name):
        run(tmp_path, names=names)


def test_what_was_touched_while_it_was_looked_at_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dataset(tmp_path / "data")
    monkeypatch.setattr(validate, "_ahead", validate.Ahead())

    def then_add(batches: dict[str, ValidationTable]) -> list[dict[str, object]]:
        found = run_rules(batches)
        (tmp_path / "data" / "unlisted.txt").write_text("x")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(validate, "run_rules", then_add)
        data = DataConfig(images=tmp_path / "data")
        validate.look_ahead(data.model_dump(mode="json"), CHECKS.model_dump(mode="json"), ".", None)
    assert not run(tmp_path).success
