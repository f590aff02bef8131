"""Every manifest that cannot be read is refused with the file, the row and the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.data.vocabulary import Vocabulary
from fade.run.resolve_params import parse_params
from fade.errors import DataError
from fade.data.manifest import COLUMNS, is_inside, read_manifest
from fade.utils.hashing import sha256_of
from fade.run.context import RunContext

HEAD = ",".join(COLUMNS)
ROW = f"noto/panda.png,panda,bears,noto,noto-set,1.0,MIT,{'0' * 64},64,64,train"


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "manifest.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_good_manifest(tmp_path: Path) -> None:
    frame = read_manifest(write(tmp_path, f"{HEAD}\n{ROW}\n{ROW.replace('panda', 'NA').replace('noto/', 'é/')}\n"))
    assert list(frame.columns) == list(COLUMNS)
    assert frame["concept"].tolist() == ["panda", "NA"]  # NA is a name here, not a missing value
    assert frame["path"][1] == "é/NA.png" and frame["version"][0] == "1.0"
    assert frame["width"].dtype.kind == "i"


BAD = {
    "empty file": (b"", "is empty"),
    "head only": (HEAD.encode(), "has no rows"),
    "not UTF-8": (f"{HEAD}\n{ROW}\n".encode().replace(b"bears", b"b\xe4rs"), r"is not UTF-8 \(byte \d+\)"),
    "UTF-16": (f"{HEAD}\n{ROW}\n".encode("utf-16"), "is not UTF-8"),
    "extra column": (f"{HEAD},colour\n{ROW},red\n".encode(), r"unknown \['colour'\]"),
    "missing "
    "column": (HEAD.replace(",licence", "").encode() + b"\n" + ROW.replace(",MIT", "").encode(), r"missing \['licence'\]"),
    "misspelt "
    "column": (f"{HEAD.replace('licence', 'license')}\n{ROW}".encode(), r"missing \['licence'\], unknown \['license'\]"),
    "ragged row": (f"{HEAD}\n{ROW}\n{ROW},more,more\n".encode(), "is no CSV table"),
    "all rows too "
    "long": (f"{HEAD}\n{ROW},more\n{ROW},more\n".encode(), "is no CSV table: its rows have "
                                                                        "more fields"),
    "row too "
    "short": (f"{HEAD}\n{ROW}\nnoto/panda.png,panda\n".encode(), "row 3: width is '', not a whole "
                                                                         "number"),
    "unclosed quote": (f'{HEAD}\n"{ROW}\n'.encode(), "is no CSV table"),
    "dot-dot": (f"{HEAD}\n{ROW.replace('noto/panda.png', '../panda.png')}\n".encode(), r"row 2: '\.\./panda\.png' leaves the data folder"),
    "absolute": (f"{HEAD}\n{ROW}\n{ROW.replace('noto/', '/etc/')}\n".encode(), "row 3: '/etc/panda.png' "
                                                                               "leaves the data folder"),
    "empty path": (f"{HEAD}\n{ROW.replace('noto/panda.png', '')}\n".encode(), "row 2: '' leaves"),
    "width in "
    "words": (f"{HEAD}\n{ROW}\n{ROW.replace(',64,64', ',wide,64')}\n".encode(), "row 3: width is "
                                                                                         "'wide', not a "
                                                                                         "whole number"),
    "broken height": (f"{HEAD}\n{ROW.replace(',64,64', ',64,64.5')}\n".encode(), r"row 2: height is '64\.5'"),
    "infinite width": (f"{HEAD}\n{ROW.replace(',64,64', ',inf,64')}\n".encode(), "row 2: width is 'inf'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_manifest_is_refused_by_name(tmp_path: Path, case: str) -> None:
    content, sentence = BAD[case]
    path = write(tmp_path, content)
    with pytest.raises(DataError, match=rf"manifest: .*manifest\.csv.*{sentence}.*Next: ") as caught:
        read_manifest(path)
    assert caught.value.exit_code == 1
    assert path.read_bytes() == content


def test_quotes_empty_lines_and_another_order_of_columns_are_read(tmp_path: Path) -> None:
    other = ROW.replace("panda", "NA").replace("MIT", '"MIT, or ""other"""')
    frame = read_manifest(write(tmp_path, f"{HEAD}\n{ROW}\n\n{other}\n"))
    assert frame["licence"].tolist() == ["MIT", 'MIT, or "other"']
    turned = read_manifest(write(tmp_path, "\n".join(",".join(reversed(line.split(","))) for line in (HEAD, ROW))))
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
    rows = [ROW, ROW.replace("noto", "twemoji").replace("train", "heldout"), ROW.replace("panda", "rose").replace("bears", "flowers")]
    rows += [ROW.replace("noto", "fluent")]
    path = write(tmp_path, "\n".join([HEAD, *rows]))
    params = parse_params({"data": {"images": "."}, "neighborhood": {"k": 1, "k_heldout": 1}})
    vocabulary = RunContext(params, "panda", tmp_path / "runs", tmp_path).vocabulary
    assert vocabulary == Vocabulary.from_file(path) and vocabulary.styles == ("noto", "fluent")
    assert vocabulary.names == ("panda", "rose") and vocabulary.family("rose") == "flowers"
    path.write_text(f"{HEAD}\n{ROW},more\n")
    with pytest.raises(DataError, match="is no CSV table"):
        _ = RunContext(params, "panda", tmp_path / "runs", tmp_path).vocabulary


def test_vocabulary_from_a_manifest(tmp_path: Path) -> None:
    heldout = ROW.replace("noto", "twemoji").replace("train", "heldout")
    vocabulary = Vocabulary.from_file(
        write(tmp_path, f"{HEAD}\n{ROW}\n{heldout}\n{ROW.replace('panda', 'rose').replace('bears', 'flowers')}\n")
    )
    assert vocabulary.families() == {"bears": ["panda"], "flowers": ["rose"]}
    assert vocabulary.styles == ("noto",)  # a style that was never trained on cannot be asked for


def test_sha256_of(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
