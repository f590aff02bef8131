"""What cannot be imported is refused by its name, with the next action; nothing half-imported is in place."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fade.data.importers import importing
from fade.data.importers.convert import convert
from fade.data.importers.importing import Chunk, _convert_chunk, _write
from fade.data.importers.options import ImportOptions, Split
from fade.data.importers.records import accept_terms, require_licence
from fade.data.importers.sets import picture_set
from fade.errors import BusyError, DataError, StorageError, UsageError
from tests.data_sets import (
    ACCEPTED,
    DRAWN,
    FIXTURES,
    copied,
    import_fixture,
    own_pictures,
    table,
    unpacked,
)

MINE = {"licence": "CC0-1.0", "split": DRAWN}


def picture(kind: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (48, 64), **save: Any) -> bytes:
    """A noise picture, packed."""
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    packed = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(packed, kind, **save)
    return packed.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", **more: Any) -> None:
    """A member with any name and kind."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in more.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(content))


def hostile(path: Path, name: str, **more: Any) -> Path:
    """A tar whose second member is not honest."""
    with tarfile.open(path, "w") as tar:
        add(tar, "Images/n02085620-Chihuahua/n02085620_1.jpg", picture())
        add(tar, name, **more)
    return path


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("../evil.jpg", {}),
        ("/etc/evil.jpg", {}),
        ("Images/../../evil.jpg", {}),
        ("Images/link.jpg", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        ("Images/hard.jpg", {"type": tarfile.LNKTYPE, "linkname": "../x"}),
        ("Images/device.jpg", {"type": tarfile.CHRTYPE}),
        ("Images/pipe.jpg", {"type": tarfile.FIFOTYPE}),
    ],
)
def test_a_hostile_archive_is_refused(name: str, more: dict[str, Any], tmp_path: Path) -> None:
    archive = hostile(tmp_path / "images.tar", name, **more)
    with pytest.raises(DataError, match=r"is refused: .*do not use it until its owner"):
        import_fixture(archive, tmp_path / "out", "dogs", split=DRAWN)
    assert [one.name for one in tmp_path.iterdir()] == ["images.tar"]


def test_a_link_out_of_a_folder_is_refused_and_one_inside_is_read(tmp_path: Path) -> None:
    home = own_pictures(tmp_path / "a")
    first = home / "my cat (Tom)" / "IMG_0000.jpg"
    (home / "my cat (Tom)" / "IMG_0009.jpg").symlink_to(first)
    skip = ("{draft}", "one only")
    record = import_fixture(home, tmp_path / "out", "folder", **MINE, skip=skip)
    assert sum(record["counts"].values()) == 28  # 27 without the link
    (home / "my cat (Tom)" / "IMG_0010.jpg").symlink_to("/etc/hostname")
    with pytest.raises(DataError, match="IMG_0010.jpg' is a link out of it"):
        import_fixture(home, tmp_path / "other", "folder", **MINE, skip=skip)


def cut(path: Path, keep: Callable[[bytes], bytes]) -> None:
    path.write_bytes(keep(path.read_bytes()))


@pytest.mark.parametrize(
    ("set_name", "file", "keep"),
    [
        ("dogs", "images.tar", lambda body: body[: len(body) // 2]),
        ("dogs", "images.tar", lambda body: body.rstrip(b"\0") + b"\0" * (-len(body.rstrip(b"\0")) % 512)),
        ("dogs", "images.tar", lambda body: body[:100_000] + b"x" * 512 + body[100_512:]),
        ("dogs", "images.tar", lambda body: b""),
        ("cub", "CUB_200_2011.tgz", lambda body: body[:-2000]),
        ("cub", "CUB_200_2011.tgz", lambda body: body[:-8] + b"\0" * 8),
        ("cub", "CUB_200_2011.tgz", lambda body: gzip.compress(b"no tar")),
        ("imagenet", "ILSVRC2012_img_train.tar", lambda body: body[:30_000]),
    ],
)
def test_a_truncated_or_damaged_archive_is_no_smaller_data_set(
    set_name: str, file: str, keep: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    home = copied(set_name, tmp_path)
    cut(home / file, keep)
    with pytest.raises(DataError, match=rf"{re.escape(file)} is truncated or damaged.*fetch it again"):
        import_fixture(home, tmp_path / "out", set_name)
    assert not (tmp_path / "out").exists()


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("cats/a.jpg", b"\0" * (4 << 20))
        for name in ("cats/b.jpg", "dogs/c.jpg", "dogs/d.jpg"):
            opened.writestr(name, picture())
    with pytest.raises(DataError, match=r"is refused: 'cats/a.jpg' is [\d,]+x packed"):
        import_fixture(bomb, tmp_path / "out", "folder", **MINE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("cats/../../evil.jpg", stat.S_IFREG, "would lie outside"),
        ("/etc/evil.jpg", stat.S_IFREG, "would lie outside"),
        ("cats/link.jpg", stat.S_IFLNK, "is a link or a device"),
        ("cats/pipe.jpg", stat.S_IFIFO, "is a link or a device"),
    ],
)
def test_a_hostile_zip_is_refused(name: str, mode: int, words: str, tmp_path: Path) -> None:
    packed = tmp_path / "mine.zip"
    with zipfile.ZipFile(packed, "w") as opened:
        opened.writestr("cats/a.jpg", picture())
        member = zipfile.ZipInfo(name)
        member.external_attr = (mode | 0o644) << 16
        opened.writestr(member, b"/etc/passwd")
    with pytest.raises(DataError, match=rf"is refused: .*{words}"):
        import_fixture(packed, tmp_path / "out", "folder", **MINE)
    assert [one.name for one in tmp_path.iterdir()] == ["mine.zip"]


def test_companions_that_are_missing_are_named(tmp_path: Path) -> None:
    for name, gone, words in (
        ("dogs", "lists.tar", r"it has no split: the lists \(lists.tar\) are missing"),
        ("flowers", "imagelabels.mat", "imagelabels.mat is missing"),
        ("flowers", "setid.mat", "it has no split: setid.mat is missing"),
        ("imagenet", "ILSVRC2012_devkit_t12.tar.gz", "validation pictures have no labels here"),
    ):
        home = copied(name, tmp_path / gone)
        (home / gone).unlink()
        with pytest.raises(DataError, match=words):
            import_fixture(home, tmp_path / "out", name)


def test_the_wrong_set_is_named(tmp_path: Path) -> None:
    for name in ("dogs", "flowers", "cub", "imagenette", "imagenet"):
        other = "cub" if name == "dogs" else "dogs"
        with pytest.raises(DataError, match="no picture of .* was recognised"):
            import_fixture(FIXTURES / other, tmp_path / "out", name)
    with pytest.raises(DataError, match="does not exist"):
        import_fixture(tmp_path / "nothing", tmp_path / "out", "dogs")
    (tmp_path / "x.rar").write_bytes(b"Rar!")
    with pytest.raises(DataError, match="is no archive of a data set"):
        import_fixture(tmp_path / "x.rar", tmp_path / "out", "dogs")


def test_lists_and_pictures_must_agree(tmp_path: Path) -> None:
    home = tmp_path / "copy"
    for archive in ("images.tar", "lists.tar"):
        unpacked(FIXTURES / "dogs" / archive, home)
    gone = next((home / "Images").rglob("*_7.jpg"))
    content = gone.read_bytes()
    gone.unlink()
    with pytest.raises(DataError, match=rf"1 pictures that the lists .* are missing: '{gone.parent.name}/"):
        import_fixture(home, tmp_path / "out", "dogs")
    assert import_fixture(home, tmp_path / "part", "dogs", partial=True)["options"]["partial"] is True
    gone.write_bytes(content)
    gone.with_name("n02085620_999999.jpg").write_bytes(content)
    with pytest.raises(DataError, match="1 pictures are in no list"):
        import_fixture(home, tmp_path / "out", "dogs")


def test_labels_that_count_from_zero_are_refused(tmp_path: Path) -> None:
    import scipy.io

    home = copied("flowers", tmp_path)
    labels = scipy.io.loadmat(home / "imagelabels.mat")["labels"]
    scipy.io.savemat(home / "imagelabels.mat", {"labels": labels * 0})
    with pytest.raises(DataError, match="holds the label 0"):
        import_fixture(home, tmp_path / "out", "flowers")
    (home / "imagelabels.mat").write_bytes(b"MATLAB 7.3 MAT-file" + b"\0" * 600)
    with pytest.raises(DataError, match=r"MATLAB 7.3 file \(HDF5\)"):
        import_fixture(home, tmp_path / "out", "flowers")


def test_parquet_without_names_of_classes_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.table({"image": [{"bytes": picture(), "path": "a.jpg"}], "label": pa.array([3], pa.int64())})
    pq.write_table(rows, tmp_path / "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match="its labels are numbers without names"):
        import_fixture(tmp_path, tmp_path.parent / "out", "cub")


def test_flowers_in_text_order_go_by_name_and_not_by_place(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    feature = {"info": {"features": {"label": {"names": ["1", "10", "100", "2"], "_type": "ClassLabel"}}}}
    for split in ("train", "test"):
        images = [{"bytes": picture(size=(48, 50 + i)), "path": f"{split}{i}.jpg"} for i in range(4)]
        rows = pa.table({"image": images, "label": pa.array([0, 0, 1, 1], pa.int64())})
        rows = rows.replace_schema_metadata({"huggingface": json.dumps(feature)})
        pq.write_table(rows, tmp_path / f"{split}-00000-of-00001.parquet")
    record = import_fixture(tmp_path, tmp_path.parent / "flowers-out", "flowers")
    assert record["classes"] == 2
    labels = (tmp_path.parent / "flowers-out" / "classes.csv").read_text(encoding="utf-8")
    assert "pink primrose,1," in labels and ",10," in labels and ",2," not in labels


def test_a_hub_s_crane_without_a_wnid_is_left_out_and_not_guessed(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ["crane", "tench, Tinca tinca", "golf_ball"]
    feature = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    for split, high in (("train", 50), ("validation", 70)):
        images = [{"bytes": picture(size=(48, high + i)), "path": f"{split}{i}.jpg"} for i in range(6)]
        rows = pa.table({"image": images, "label": pa.array([0, 0, 1, 1, 2, 2], pa.int64())})
        rows = rows.replace_schema_metadata({"huggingface": json.dumps(feature)})
        pq.write_table(rows, tmp_path / f"{split}-00000-of-00001.parquet")
    record = import_fixture(tmp_path, tmp_path.parent / "cranes", "imagenet")
    labels = {row["label"] for row in table(tmp_path.parent / "cranes" / "classes.csv")}
    assert labels == {"n01440764", "n03445777"}  # both cranes bear the name
    assert set(record["left_out"].values()) == {"'crane' is no one class of ImageNet-1k"}


@pytest.mark.parametrize("bad", ["{draft}", "a" * 90, "123", "con..cat", "_"])
def test_a_folder_that_can_be_no_concept_is_named_with_all_others(bad: str, tmp_path: Path) -> None:
    home = own_pictures(tmp_path)
    if bad != "{draft}":
        (home / "{draft}").rename(home / bad)
    with pytest.raises(DataError, match=rf"1 classes cannot be concepts: .*{re.escape(bad[:40])}.*--skip"):
        import_fixture(home, tmp_path / "out", "folder", **MINE)


@pytest.mark.parametrize("twin", ["border-collie", "Border Collie", "border collie"])
def test_names_that_fall_together_are_refused(twin: str, tmp_path: Path) -> None:
    home = own_pictures(tmp_path)
    (home / "{draft}").rename(home / twin)
    with pytest.raises(DataError, match="(cannot be told apart|appears twice).*--names FILE"):
        import_fixture(home, tmp_path / "out", "folder", **MINE, skip=("one only",))


def test_one_folder_under_two_spellings_of_unicode_is_one_concept(tmp_path: Path) -> None:
    home = own_pictures(tmp_path)
    (home / "{draft}").rename(home / "Mu\u0308nsterla\u0308nder")  # NFD beside NFC
    record = import_fixture(home, tmp_path / "out", "folder", **MINE, skip=("one only",))
    assert record["classes"] == 4


def test_classes_that_are_too_small_are_named(tmp_path: Path) -> None:
    home = own_pictures(tmp_path)
    with pytest.raises(DataError, match="1 classes have fewer than two .*--skip 'one only'"):
        import_fixture(home, tmp_path / "out", "folder", **MINE, skip=("{draft}",))
    alone = tmp_path / "alone" / "cats"
    alone.mkdir(parents=True)
    for i in range(3):
        (alone / f"{i}.jpg").write_bytes(picture(size=(48 + i, 64)))
    with pytest.raises(DataError, match="only 1 class is there"):
        import_fixture(alone.parent, tmp_path / "out", "folder", **MINE)
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "a.jpg").write_bytes(picture())
    with pytest.raises(DataError, match="lies in no folder of a concept"):
        import_fixture(tmp_path / "loose", tmp_path / "out", "folder", **MINE)


def test_a_class_without_a_readable_picture_is_named(tmp_path: Path) -> None:
    home = own_pictures(tmp_path)
    for path in (home / "my cat (Tom)").iterdir():
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"no picture of 'my cat \(Tom\)' can be read: .*Git LFS"):
        import_fixture(home, tmp_path / "out", "folder", **MINE, skip=("{draft}", "one only"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (picture()[:-500], "truncated"),
        (b"GIF89a" + b"\0" * 20, "a GIF file"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 20, "HEIC or AVIF"),
        (b"<html>", "a web page"),
        (b"hello", "no JPEG, PNG or WebP picture"),
    ],
)
def test_a_file_that_is_no_picture_says_what_it_is(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        convert("a.jpg", content, None)


def test_pictures_of_other_kinds_are_left_out_or_converted() -> None:
    wide = io.BytesIO()
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(wide, "PNG")
    with pytest.raises(ValueError, match="16 bits a channel"):
        convert("a.png", wide.getvalue(), None)
    moving = picture("WEBP", save_all=True, append_images=[Image.new("RGB", (48, 64))])
    with pytest.raises(ValueError, match="animated"):
        convert("a.webp", moving, None)
    for mode, kind, change in (
        *(("L", "JPEG", "grey"), ("CMYK", "JPEG", "cmyk"), ("RGBA", "PNG", "alpha"), ("LA", "PNG", "alpha")),
        *(("P", "PNG", "palette"), ("1", "PNG", "grey"), ("RGB", "WEBP", "suffix")),
    ):
        made = convert("a.jpg" if kind != "PNG" else "a.png", picture(kind, mode), None)
        assert made.change == change
        with Image.open(io.BytesIO(made.content)) as kept:
            assert kept.mode == "RGB"


def test_a_picture_of_too_many_pixels_is_left_out_before_it_is_unpacked() -> None:
    packed = io.BytesIO()
    Image.new("1", (8001, 8000)).save(packed, "PNG")
    assert len(packed.getvalue()) < 100_000
    with pytest.raises(ValueError, match="8001 x 8000 pixels are too many"):
        convert("a.png", packed.getvalue(), None)


def test_an_empty_pixel_becomes_white_and_not_black() -> None:
    clear = io.BytesIO()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(clear, "PNG")
    with Image.open(io.BytesIO(convert("a.png", clear.getvalue(), None).content)) as kept:
        assert kept.getpixel((0, 0)) == (255, 255, 255)


def test_terms_and_licences_must_be_named() -> None:
    dogs, mine = picture_set("dogs"), picture_set("folder")
    with pytest.raises(UsageError, match="non-commercial.*--accept imagenet-terms"):
        accept_terms(dogs, "", "me")
    accepted = accept_terms(dogs, "imagenet-terms", "me")
    assert accepted and accepted.by == "me" and accepted.at.endswith("+00:00")
    assert accept_terms(mine, "", "me") is None
    with pytest.raises(UsageError, match="--licence"):
        require_licence(mine, ImportOptions())
    with pytest.raises(UsageError, match="is no licence"):
        require_licence(mine, ImportOptions(licence="free for all"))
    with pytest.raises(UsageError, match="has its own licence"):
        require_licence(dogs, ImportOptions(licence="MIT"))
    require_licence(mine, ImportOptions(licence="CC-BY-4.0"))


@pytest.mark.parametrize("text", ["0.8", "seed:0", "seed:x,0.8", "seed:0,1", "seed:0,0", "seed:0,nan"])
def test_a_split_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no split"):
        Split.parse(text)
    assert Split.parse("seed:7,0.5") == Split(7, 0.5)


def test_the_result_does_not_lie_in_the_copy_or_on_a_file(tmp_path: Path) -> None:
    home = copied("imagenette", tmp_path)
    with pytest.raises(UsageError, match="lies in the copy"):
        import_fixture(home, home / "out", "imagenette")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="is a file"):
        import_fixture(home, tmp_path / "file", "imagenette")
    (tmp_path / "taken").mkdir()
    with pytest.raises(DataError, match="is there, and it is no import"):
        import_fixture(home, tmp_path / "taken", "imagenette")


def test_a_second_import_at_once_says_who(tmp_path: Path) -> None:
    from fade.data.importers.partial import partial_folder

    with partial_folder(tmp_path / "out", "key"), pytest.raises(BusyError, match="is being imported"):
        import_fixture(FIXTURES / "imagenette", tmp_path / "out", "imagenette")


def test_a_full_disk_is_named_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fade.data.importers.importing.free_bytes", lambda path: 1 << 20)
    with pytest.raises(StorageError, match="disk is full"):
        import_fixture(FIXTURES / "imagenette", tmp_path / "out", "imagenette")
    assert not (tmp_path / "out").exists() and not [*tmp_path.rglob("*.JPEG")]


def test_a_disk_that_fills_up_on_the_way_is_named_and_the_import_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def write(path: str, content: bytes) -> None:
        if len(written) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        _write(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(importing, "_write", write)
        with pytest.raises(StorageError, match=r"the disk is full.*the import resumes"):
            import_fixture(FIXTURES / "imagenette", tmp_path / "out", "imagenette")
    assert len(written) == 5 and not (tmp_path / "out").exists()
    record = import_fixture(FIXTURES / "imagenette", tmp_path / "out", "imagenette")
    assert record == import_fixture(FIXTURES / "imagenette", tmp_path / "other", "imagenette")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_place_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir(mode=0o555)
    with pytest.raises(StorageError, match="cannot be written: Permission denied"):
        import_fixture(FIXTURES / "imagenette", tmp_path / "sets" / "out", "imagenette")


def test_an_archive_that_changes_while_it_is_read_is_no_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = copied("imagenet", tmp_path)

    def touched(folder: str, side: int | None, chunk: Chunk) -> tuple[int, str]:
        os.utime(chunk.path, ns=(1, 1))
        return _convert_chunk(folder, side, chunk)

    monkeypatch.setattr(importing, "_convert_chunk", touched)
    with pytest.raises(DataError, match=r"\.tar changed while it was read.*import it again"):
        import_fixture(home, tmp_path / "out", "imagenet")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    home = own_pictures(tmp_path)
    (home / "my cat (Tom)" / "IMG_0000.jpg").chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        import_fixture(home, tmp_path / "out", "folder", **MINE, skip=("{draft}", "one only"))


def test_accepted_terms_are_kept_apart_from_what_is_compared(tmp_path: Path) -> None:
    import_fixture(FIXTURES / "imagenette", tmp_path / "out", "imagenette")
    terms = json.loads((tmp_path / "out" / "terms.json").read_text(encoding="utf-8"))
    assert terms == {"terms": ACCEPTED.terms, "by": ACCEPTED.by, "at": ACCEPTED.at}
    assert ACCEPTED.by not in (tmp_path / "out" / "import.json").read_text(encoding="utf-8")
