"""Every manifest that cannot be read is refused with the file, the row and the reason."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fade.data.manifest import COLUMNS, is_inside, read_manifest
from fade.data.vocabulary import Concept, Vocabulary
from fade.errors import DataError
from fade.run.context import RunContext
from fade.run.resolve_params import parse_params
from fade.utils.hashing import sha256_of

HEAD = ",".join(COLUMNS)
ROW = f"noto/panda.png,panda,bears,noto,noto-set,1.0,MIT,{'0' * 64},64,64,train"


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "manifest.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_good_manifest(tmp_path: Path) -> None:
    other = ROW.replace("panda", "NA").replace("noto/", "é/")
    frame = read_manifest(write(tmp_path, f"{HEAD}\n{ROW}\n{other}\n"))
    assert list(frame.columns) == list(COLUMNS)
    assert frame["concept"].tolist() == ["panda", "NA"]  # NA is a name here, not a missing value
    assert frame["path"][1] == "é/NA.png" and frame["version"][0] == "1.0"
    assert frame["width"].dtype.kind == "i"


def rows(*lines: str, head: str = HEAD) -> bytes:
    return "".join(f"{line}\n" for line in (head, *lines)).encode()


def changed(old: str, new: str) -> str:
    assert old in ROW
    return ROW.replace(old, new)


NO_LICENCE, MISSPELT = HEAD.replace(",licence", ""), HEAD.replace("licence", "license")
BAD = {
    "empty file": (b"", "is empty"),
    "head only": (HEAD.encode(), "has no rows"),
    "not UTF-8": (rows(ROW).replace(b"bears", b"b\xe4rs"), r"is not UTF-8 \(byte \d+\)"),
    "UTF-16": (rows(ROW).decode().encode("utf-16"), "is not UTF-8"),
    "extra column": (rows(f"{ROW},red", head=f"{HEAD},colour"), r"unknown \['colour'\]"),
    "missing column": (rows(changed(",MIT", ""), head=NO_LICENCE), r"missing \['licence'\]"),
    "misspelt column": (rows(ROW, head=MISSPELT), r"missing \['licence'\], unknown \['license'\]"),
    "ragged row": (rows(ROW, f"{ROW},more,more"), "is no CSV table"),
    "all rows too long": (
        rows(f"{ROW},more", f"{ROW},more"),
        "is no CSV table: its rows have more fields than its head",
    ),
    "row too short": (rows(ROW, "noto/panda.png,panda"), "row 3: width is '', not a whole number"),
    "unclosed quote": (rows(f'"{ROW}'), "is no CSV table"),
    "dot-dot": (rows(changed("noto/", "../")), r"row 2: '\.\./panda\.png' leaves the data folder"),
    "absolute": (rows(ROW, changed("noto/", "/etc/")), "row 3: '/etc/panda.png' leaves the data folder"),
    "a column twice": (rows(f"{ROW},x", head=f"{HEAD},path"), r"unknown \['path'\]"),
    "a head without end": (b"," * 300_000, "the first line is longer than 10,000 characters"),
    "rows without end": (rows("a\n" * 1_000_001), "has more than 1,000,000 rows"),
    "empty path": (rows(changed("noto/panda.png", "")), "row 2: '' leaves"),
    "width in words": (
        rows(ROW, changed(",64,64", ",wide,64")),
        "row 3: width is 'wide', not a whole number",
    ),
    "broken height": (rows(changed(",64,64", ",64,64.5")), r"row 2: height is '64\.5'"),
    "a width that no integer holds": (
        rows(ROW, changed(",64,64", f",{'9' * 200},64")),
        "row 3: width is '999",
    ),
    "infinite width": (rows(changed(",64,64", ",inf,64")), "row 2: width is 'inf'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_manifest_is_refused_by_name(tmp_path: Path, case: str) -> None:
    content, sentence = BAD[case]
    path, start = write(tmp_path, content), time.process_time()
    with pytest.raises(DataError, match=rf"manifest: .*manifest\.csv.*{sentence}.*Next: ") as caught:
        read_manifest(path)
    assert time.process_time() - start < 3  # of pandas' import, the first time
    assert caught.value.exit_code == 1
    assert path.read_bytes() == content


def test_quotes_empty_lines_and_another_order_of_columns_are_read(tmp_path: Path) -> None:
    other = ROW.replace("panda", "NA").replace("MIT", '"MIT, or ""other"""')
    frame = read_manifest(write(tmp_path, f"{HEAD}\n{ROW}\n\n{other}\n"))
    assert frame["licence"].tolist() == ["MIT", 'MIT, or "other"']
    backwards = [",".join(reversed(line.split(","))) for line in (HEAD, ROW)]
    turned = read_manifest(write(tmp_path, "\n".join(backwards)))
    assert turned["path"].tolist() == ["noto/panda.png"] and list(turned.columns) == list(COLUMNS)


def test_a_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist.*pull the data"):
        read_manifest(tmp_path / "manifest.csv")


@pytest.mark.parametrize(("name", "inside"), [
    ("a.png", True), ("a/b c/d.png", True), ("..a/b..png", True), ("é.png", True),
    ("", False), ("/a", False), ("..", False), ("a/../../b", False), ("a\\b", False), ("C:/a", False),
])  # fmt: skip
def test_is_inside(name: str, inside: bool) -> None:
    assert is_inside(name) is inside


def test_a_runs_vocabulary_is_that_of_its_manifest(tmp_path: Path) -> None:
    heldout = ROW.replace("noto", "twemoji").replace("train", "heldout")
    rose = ROW.replace("panda", "rose").replace("bears", "flowers")
    path = write(tmp_path, rows(ROW, heldout, rose, ROW.replace("noto", "fluent")))
    params = parse_params({"data": {"images": "."}, "neighborhood": {"k": 1, "k_heldout": 1}})
    vocabulary = RunContext(params, "panda", tmp_path / "runs", tmp_path).vocabulary
    assert vocabulary == Vocabulary.from_file(path) and vocabulary.styles == ("noto", "fluent")
    assert vocabulary.names == ("panda", "rose") and vocabulary.family("rose") == "flowers"
    path.write_text(f"{HEAD}\n{ROW},more\n")
    with pytest.raises(DataError, match="is no CSV table"):
        _ = RunContext(params, "panda", tmp_path / "runs", tmp_path).vocabulary


def test_vocabulary_from_a_manifest(tmp_path: Path) -> None:
    heldout = ROW.replace("noto", "twemoji").replace("train", "heldout")
    rose = ROW.replace("panda", "rose").replace("bears", "flowers")
    vocabulary = Vocabulary.from_file(write(tmp_path, rows(ROW, heldout, rose)))
    assert vocabulary.concepts == (Concept("panda", "bears"), Concept("rose", "flowers"))
    assert vocabulary.styles == ("noto",)  # a style that was never trained on cannot be asked for


def test_sha256_of(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
