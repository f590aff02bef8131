"""Great Expectations on real files: each planted fault fires its own expectation and no other; a clean set
passes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fade.config import ChecksConfig, DataConfig
from fade.data.manifest import MANIFEST
from fade.data.tables import concept_frame, file_frame, picture_frame
from fade.errors import DataError
from tasks.data import expectations, validate, verdicts
from tasks.data.expectations import (
    Rule,
    concept_rules,
    count_rules,
    file_rules,
    latent_rules,
    mined_rules,
    picture_rules,
)
from tasks.data.validate import Checks, ValidationTable, run_rules, validate_data, validate_mined
from tasks.data.verdicts import VerdictStore
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
    assert checks.success
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
    "a line break behind a concept": (
        lambda f, m: write_manifest(f, m.replace({"concept": {"koala": "koala\n"}})),
        "concept",
        "noto/koala.png",
    ),
    "an invisible sign in a concept": (
        lambda f, m: write_manifest(f, m.replace({"concept": {"koala": "ko\u200bala"}})),
        "concept",
        "noto/koala.png",
    ),
    "a next-line control behind a family": (
        lambda f, m: write_manifest(f, m.replace({"family": {"bears": "bears\x85"}})),
        "family",
        PANDA,
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
    assert not checks.success
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


def mined(folder: Path, store: VerdictStore | None = None, **changes: object) -> Checks:
    return validate_mined(**generated(**changes), checks=CHECKS, out=folder / "checks", store=store)  # type: ignore[arg-type]


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
    run_rules(
        {
            "p": ValidationTable(pictures, "path", picture_rules(CHECKS)),
            "c": ValidationTable(concept_frame(pictures), "concept", concept_rules(CHECKS)),
            "f": ValidationTable(file_frame(tmp_path, pictures["path"]), "path", file_rules()),
        }
    )
    pd.testing.assert_frame_equal(pictures, before)


# Verdicts that are kept.


@pytest.fixture
def store(tmp_path: Path) -> VerdictStore:
    return VerdictStore(tmp_path / "runs" / "cache" / "checks")


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one each time that the rules are run."""
    times: list[int] = []

    def counted(batches: dict[str, ValidationTable]) -> list[dict[str, object]]:
        times.append(1)
        return run_rules(batches)

    monkeypatch.setattr(validate, "run_rules", counted)
    return times


def test_a_verdict_is_reached_once_for_the_same_content(
    tmp_path: Path, store: VerdictStore, judged: list[int]
) -> None:
    """On data with a warning: that is told each time. A run without a store is the control."""
    make_dataset(tmp_path / "data")
    (tmp_path / "data" / "unlisted.txt").write_text("x")
    alone = run(tmp_path)
    page, document = alone.page.read_bytes(), (tmp_path / "checks" / "data.json").read_bytes()
    for times in (2, 2, 2):
        alone.page.unlink()
        assert run(tmp_path, store=store) == alone and len(judged) == times
        assert (
            alone.page.read_bytes() == page and (tmp_path / "checks" / "data.json").read_bytes() == document
        )
    assert fired(results(tmp_path)) == {"unlisted"}
    for path in (tmp_path / "data").rglob("*.png"):
        os.utime(path, (1, 1))  # a file that was only touched holds what it held
    assert run(tmp_path, store=store) == alone and len(judged) == 2


def test_great_expectations_is_imported_only_where_there_is_no_verdict(
    tmp_path: Path, store: VerdictStore
) -> None:
    make_dataset(tmp_path / "data")
    run(tmp_path, store=store)
    mined(tmp_path, store=store)
    script = """
import sys
from pathlib import Path
import numpy as np
from fade.config import ChecksConfig, DataConfig
from tasks.data.validate import validate_data, validate_mined
from tasks.data.verdicts import VerdictStore
home = Path(sys.argv[1])
checks, store = ChecksConfig(min_per_concept=2, size=8), VerdictStore(home / "runs" / "cache" / "checks")
assert validate_data(DataConfig(images=home / "data"), checks, out=home / "there", store=store).success
pictures = np.random.default_rng(7).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)[:8]
given = (["panda"] * 4 + ["koala"] * 4, {"panda": 4, "koala": 4}, {"panda": 0.9, "koala": 0.8}, True)
assert validate_mined(pictures, *given, checks, home / "there", store).success
print("great_expectations" in sys.modules)
"""
    for kept, imported in ((True, "False"), (False, "True")):
        if not kept:
            shutil.rmtree(store.folder)
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=120
        )
        assert (done.stdout.strip(), done.returncode) == (imported, 0), done.stderr


def test_a_fault_that_keeps_size_and_time_is_seen(tmp_path: Path, store: VerdictStore) -> None:
    frame = make_dataset(tmp_path / "data")
    run(tmp_path, store=store)
    one = tmp_path / "data" / frame["path"][0]
    before, body = one.stat(), bytearray(one.read_bytes())
    body[-20] ^= 1
    one.write_bytes(body)
    os.utime(one, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (one.stat().st_size, one.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(DataError, match=one.name):
        run(tmp_path, store=store)
    body[-20] ^= 1
    one.write_bytes(body)
    assert run(tmp_path, store=store).success, "the control"


def test_a_failed_verdict_is_not_kept(tmp_path: Path, store: VerdictStore, judged: list[int]) -> None:
    frame = make_dataset(tmp_path / "data")
    (tmp_path / "data" / frame["path"][3]).unlink()
    messages = []
    for _ in range(2):
        with pytest.raises(DataError) as failed:
            run(tmp_path, store=store)
        messages.append(str(failed.value))
    assert messages[0] == messages[1] and len(judged) == 2 and not store.folder.exists()


def worded_otherwise() -> list[Rule]:
    return [replace(rule, title="another title") for rule in file_rules()]


FILES: dict[str, Callable[[Path], object]] = {
    "another file": lambda data: (data / "more.txt").write_text("x"),
    "a renamed file": lambda data: (data / "unlisted.txt").rename(data / "other.txt"),
    "a folder that is linked": lambda data: (data / "link").symlink_to(data.parent),
}
ARGUMENTS: dict[str, dict[str, object]] = {
    "the configuration": {"checks": ChecksConfig(min_per_concept=1, size=8)},
    "the known names": {"names": ["panda", "koala", "tulip", "rose"]},
}
CODE: dict[str, tuple[ModuleType, str, object]] = {
    "a rule": (expectations, "file_rules", worded_otherwise),
    "the code that measures": (verdicts, "code_sha256", lambda *_: "0"),
    "the code that judges": (verdicts, "ENGINE", Path(__file__)),
    "a library": (verdicts, "versions", lambda _: {"great_expectations": "0"}),
}


@pytest.mark.parametrize("change", [*FILES, *ARGUMENTS, *CODE])
def test_what_was_changed_is_judged_anew(
    tmp_path: Path, store: VerdictStore, judged: list[int], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    make_dataset(tmp_path / "data")
    (tmp_path / "data" / "unlisted.txt").write_text("x")
    run(tmp_path, store=store)
    if change in FILES:
        FILES[change](tmp_path / "data")
    if change in CODE:
        monkeypatch.setattr(*CODE[change])
    run(tmp_path, store=store, **ARGUMENTS.get(change, {}))  # type: ignore[arg-type]
    assert len(judged) == 2


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda body: b"",
    "cut": lambda body: body[:-20],
    "no JSON": lambda body: b"\xff\xfe",
    "a list": lambda body: b"[]",
    "another outcome": lambda body: body.replace(b'"success": false', b'"success": true'),
    "another number": lambda body: body.replace(b'"Pictures": 12', b'"Pictures": 13'),
    "of another key": lambda body: re.sub(rb'"key": "\w+"', b'"key": "0"', body),
    "without its hash": lambda body: body.replace(b'"sha256"', b'"sha255"', 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_made_again(
    tmp_path: Path, store: VerdictStore, judged: list[int], damage: str
) -> None:
    make_dataset(tmp_path / "data")
    (tmp_path / "data" / "unlisted.txt").write_text("x")
    found = run(tmp_path, store=store)
    (entry,) = store.folder.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(DAMAGES[damage](whole))
    assert entry.read_bytes() != whole
    assert run(tmp_path, store=store) == found and len(judged) == 2
    assert entry.read_bytes() == whole and list(store.folder.iterdir()) == [entry]


def test_a_verdict_on_files_that_were_changed_meanwhile_is_not_kept(
    tmp_path: Path, store: VerdictStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dataset(tmp_path / "data")

    def then_add(batches: dict[str, ValidationTable]) -> list[dict[str, object]]:
        found = run_rules(batches)
        (tmp_path / "data" / "unlisted.txt").write_text("x")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(validate, "run_rules", then_add)
        assert run(tmp_path, store=store).success
    assert not store.folder.exists()
    assert not run(tmp_path, store=store).success
    (tmp_path / "data" / "unlisted.txt").unlink()
    assert run(tmp_path, store=store).success


def test_verdicts_on_mined_pictures_are_kept_by_all_that_decides_them(
    tmp_path: Path, store: VerdictStore, judged: list[int]
) -> None:
    first = mined(tmp_path, store=store)
    assert mined(tmp_path, store=store) == first and first.success and len(judged) == 1
    other = NOISE[:8].copy()
    other[3, 4, 4, 1] ^= 1
    changed: tuple[dict[str, object], ...] = (
        {"pictures": other},
        {"pictures": NOISE[:8].reshape(8, 4, 16, 3)},
        {"confidences": {"panda": 0.9, "koala": 0.79}},
        {"concepts": ["koala"] * 4 + ["panda"] * 4},
    )
    for times, changes in enumerate(changed, 2):
        mined(tmp_path, store=store, **changes)
        assert len(judged) == times
    for _ in range(2):  # the failed one is not kept
        with pytest.raises(DataError, match="finite"):
            mined(tmp_path, store=store, finite=False)
    assert len(judged) == 7 and len(list(store.folder.iterdir())) == 5


def test_a_further_rule_is_one_entry_of_its_table() -> None:
    """docs/architecture.md, "How to add a data check"."""
    columns = {"column_A": "width", "column_B": "height"}
    rule = Rule("square", "Every picture is square", "ColumnPairValuesToBeEqual", columns)
    frame = pd.DataFrame({"path": ["a.png", "b.png"], "width": [64, 64], "height": [64, 63]})
    (result,) = run_rules({"pictures": ValidationTable(frame, "path", [rule])})
    assert (result["name"], result["success"], [row["row"] for row in result["rows"]]) == (
        "square",
        False,
        ["b.png"],
    )
