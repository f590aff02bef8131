"""The .dvc file of a data folder and the guard of the listing that it names. Needs no DVC.

A ``.dvc`` file holds the md5 of a listing, the listing the path and the md5 of every file. A listing comes
from a remote and is not trusted: DVC's own checkout follows ``../`` in it, out of the repository.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fade.data.manifest import SHOWN, is_plain
from fade.errors import DataError, RemoteError
from fade.utils.hashing import md5_of
from fade.utils.parsing import MalformedError, parse_json, parse_yaml
from fade.utils.reading import LISTING, SETTINGS, RefusedFileError, read_bytes, read_text

STAGE = "pull"
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class DvcFile:
    """A ``.dvc`` file that tracks one folder."""

    path: Path
    """The .dvc file itself."""
    output: Path
    """The folder, relative to the .dvc file."""
    md5: str
    """``<md5 of the listing>.dir``."""
    size: int = 0
    """Bytes of all its files, as far as the .dvc file names them; 0: it does not."""

    @property
    def folder(self) -> Path:
        """The tracked folder."""
        return self.path.parent / self.output


def read_dvc_file(path: Path) -> DvcFile:
    """Read a ``.dvc`` file that tracks exactly one folder. Raises DataError."""

    restore = "restore it from git, or track the data anew with `dvc add`."

    def fault(what: str, action: str = restore) -> DataError:
        return DataError(f"{path}{what}.", stage=STAGE, action=action)

    try:
        content = parse_yaml(read_text(path, SETTINGS))
    except FileNotFoundError:
        raise fault(" does not exist", "run in the project's folder, or correct data.dvc_file.") from None
    except (MalformedError, OSError) as error:
        raise fault(f" cannot be read: {error}") from None
    outs = content.get("outs") if isinstance(content, dict) else None
    if not isinstance(outs, list) or len(outs) != 1 or not isinstance(outs[0], dict):
        raise fault(" must track exactly one folder")
    if "wdir" in content:
        raise fault(" has a wdir", "keep the .dvc file beside the folder that it tracks.")
    name, md5 = str(outs[0].get("path", "")), str(outs[0].get("md5", ""))
    if not is_plain(name):
        raise fault(f": path {name[:SHOWN]!r} leaves the repository")
    if not md5.endswith(".dir") or not _MD5.fullmatch(md5.removesuffix(".dir")):
        raise fault(f": md5 {md5[:SHOWN]!r} is not the md5 of a folder")
    if outs[0].get("hash") != "md5":
        raise fault(" was written by DVC 2", "run `dvc cache migrate --dvc-files`.")
    size = outs[0].get("size")
    return DvcFile(path, Path(name), md5, size if isinstance(size, int) else 0)


def is_complete(dvcfile: DvcFile, root: Path) -> bool:
    """Whether the tracked folder holds every file of its listing, byte by byte. Files beside them are the
    user's own, as far as the cache of the project ``root`` has the listing. Raises DataError, OSError."""
    here = hash_folder(dvcfile.folder)
    if not here or listing_md5(here) == dvcfile.md5:
        return bool(here)
    listing = root / ".dvc" / "cache" / "files" / "md5" / dvcfile.md5[:2] / dvcfile.md5[2:]
    try:
        files = parse_listing(read_bytes(listing, LISTING), dvcfile, "the local cache")
    except (OSError, RemoteError):
        return False
    return all(here.get(name) == md5 for name, md5 in files.items())


def parse_listing(raw: bytes, dvcfile: DvcFile, origin: str) -> dict[str, str]:
    """The bytes of a ``.dir`` object from ``origin`` -> {relative POSIX path: md5}, sorted by path.

    Raises RemoteError when the bytes do not have the md5 of the .dvc file, or an entry is malformed or
    hostile: an absolute path, one with ``..``, a back slash, a drive or an empty part, a path twice, a file
    that is also a folder, or a malformed md5 (DVC makes a file name of it)."""
    name = f"the listing of {dvcfile.output}/ ({dvcfile.md5}) in {origin}"
    if hashlib.md5(raw, usedforsecurity=False).hexdigest() + ".dir" != dvcfile.md5:
        action = "push the data again from an intact copy (`dvc push`)."
        raise RemoteError(f"{name} is corrupt.", stage=STAGE, action=action)
    action = "do not use this remote until its owner has explained it; nothing was written."
    if len(raw) > LISTING:
        raise RemoteError(f"{name} is too large.", stage=STAGE, action=action)
    try:
        pairs = [(entry["relpath"], entry["md5"]) for entry in parse_json(raw)]
    except (ValueError, TypeError, KeyError) as error:
        raise RemoteError(f"{name} is no listing: {error}.", stage=STAGE, action=action) from None
    paths = {relpath for relpath, _ in pairs if isinstance(relpath, str)}
    files: dict[str, str] = {}
    for relpath, md5 in pairs:
        if fault := _entry_fault(relpath, md5, paths, f"{dvcfile.output}/") or (
            f"{relpath!r} is named twice" if relpath in files else ""
        ):
            raise RemoteError(f"{name} is hostile: {fault}.", stage=STAGE, action=action)
        files[relpath] = md5
    return dict(sorted(files.items()))


def _entry_fault(relpath: object, md5: object, paths: set[str], folder: str) -> str:
    """What makes an entry of a listing unsafe, in words; "" for a safe one."""
    if not isinstance(relpath, str) or not is_plain(relpath):
        return f"{repr(relpath)[:SHOWN]} would be written outside {folder}"
    if not isinstance(md5, str) or not _MD5.fullmatch(md5):
        return f"{relpath!r} has the md5 {repr(md5)[:SHOWN]}"
    parent = next((p.as_posix() for p in PurePosixPath(relpath).parents if p.as_posix() in paths), None)
    return f"{parent!r} is both a file and a folder" if parent else ""


def listing_bytes(files: Mapping[str, str]) -> bytes:
    """DVC's own serialisation of {relative path: md5}; a ``.dvc`` file records the md5 of these bytes."""
    rows = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    return json.dumps(rows, sort_keys=True).encode("utf-8")


def listing_md5(files: Mapping[str, str]) -> str:
    """``<md5>.dir`` of {relative path: md5}: a DvcFile's md5 only when every name and every byte agrees."""
    return hashlib.md5(listing_bytes(files), usedforsecurity=False).hexdigest() + ".dir"


def hash_folder(folder: Path) -> dict[str, str]:
    """{relative POSIX path: md5} of every file below ``folder``, read now; empty when there is no folder. A
    dangling link has the md5 "". Raises DataError for a linked folder below ``folder`` (writing there would
    leave the data), for a named pipe, a device or a socket, and for a name that is not UTF-8. OSError when a
    file cannot be read."""
    files: dict[str, str] = {}
    for parent, folders, names in os.walk(folder):
        require_utf8([*folders, *names], parent)
        for path in (Path(parent) / name for name in folders):
            if path.is_symlink():
                action = "replace the link by a folder; only the data folder itself may be one."
                raise DataError(f"{path} is a link to another folder.", stage=STAGE, action=action)
        for path in (Path(parent) / name for name in names):
            try:
                files[path.relative_to(folder).as_posix()] = md5_of(path) if path.exists() else ""
            except RefusedFileError as error:
                what = f"{path} is no file of a data set: {error}."
                raise DataError(what, stage=STAGE, action="remove it from the data folder.") from None
    return files


def require_utf8(names: Iterable[str], folder: Path | str) -> None:
    """Raises DataError for the first name that is not UTF-8: no listing, table or record can hold it."""
    for name in names:
        if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
            what = f"{os.fsencode(name)!r} in {folder} is a file name that is not UTF-8."
            raise DataError(what, stage=STAGE, action="rename the file, or remove it.")
