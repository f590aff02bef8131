"""What a ``.dvc`` file promises, read without DVC: the md5 of a folder's listing, and through it the md5 of
every file.

Nothing here trusts what it reads. A listing comes from a remote and names the files that a checkout will
write; DVC itself follows ``../`` in it, out of the repository. """

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from fade.errors import DataError, RemoteError
from fade.data.manifest import is_inside

_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Tracked:
    """One folder under DVC."""

    source: Path
    """The .dvc file."""
    path: Path
    """The folder, relative to the .dvc file."""
    md5: str
    """``<md5 of the listing>.dir``."""

    @property
    def folder(self) -> Path:
        return self.source.parent / self.path


def read_dvc_file(path: Path) -> Tracked:
    """Read a ``.dvc`` file that tracks exactly one folder. Raises DataError when it is missing or says
    anything else."""
    fix = "restore it from git, or track the data anew with `dvc add`."
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.", stage="pull", action="run in the project's folder, or correct data.dvc_file.") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}.", stage="pull", action=fix) from None
    outs = content.get("outs") if isinstance(content, dict) else None
    if not isinstance(outs, list) or len(outs) != 1 or not isinstance(outs[0], dict):
        raise DataError(f"{path} must track exactly one folder.", stage="pull", action=fix)
    if "wdir" in content:
        raise DataError(f"{path} has a wdir.", stage="pull", action="keep the .dvc file beside the folder that it tracks.")
    out = outs[0]
    name, md5 = str(out.get("path", "")), str(out.get("md5", ""))
    if not _is_plain(name):
        raise DataError(f"{path}: path {name!r} leaves the repository.", stage="pull", action=fix)
    if not md5.endswith(".dir") or not _MD5.fullmatch(md5.removesuffix(".dir")):
        raise DataError(f"{path}: md5 {md5!r} is not the md5 of a folder.", stage="pull", action=fix)
    if out.get("hash") != "md5":
        raise DataError(f"{path} was written by DVC 2.", stage="pull", action="run `dvc cache migrate --dvc-files`.")
    return Tracked(path, Path(name), md5)


def parse_listing(raw: bytes, tracked: Tracked, origin: str) -> dict[str, str]:
    """The bytes of a ``.dir`` object -> {relative POSIX path: md5}, sorted by path; ``origin`` says where the
    bytes lie.

    Raises RemoteError when the bytes do not have the promised md5, or an entry is malformed or hostile: an
    absolute path, one with ``..``, a back slash, a drive or an empty part, a path twice, a file that is also
    a folder, or an md5 that is none (DVC makes a file name of it). """
    name = f"the listing of {tracked.path}/ ({tracked.md5}) in {origin}"
    action = "do not use this remote until its owner has explained it; nothing was written."
    if hashlib.md5(raw, usedforsecurity=False).hexdigest() + ".dir" != tracked.md5:
        raise RemoteError(f"{name} is corrupt.", stage="pull", action="push the data again from an intact copy (`dvc push`).")
    try:
        entries = json.loads(raw)
        pairs = [(entry["relpath"], entry["md5"]) for entry in entries]
    except (ValueError, TypeError, KeyError) as error:
        raise RemoteError(f"{name} is no listing: {error!r}.", stage="pull", action=action) from None
    files: dict[str, str] = {}
    for relpath, md5 in pairs:
        if not isinstance(relpath, str) or not _is_plain(relpath):
            raise RemoteError(f"{name} is hostile: {relpath!r} would be written outside {tracked.path}/.", stage="pull", action=action)
        if not isinstance(md5, str) or not _MD5.fullmatch(md5):
            raise RemoteError(f"{name} is hostile: {relpath!r} has the md5 {md5!r}.", stage="pull", action=action)
        if relpath in files:
            raise RemoteError(f"{name} is hostile: {relpath!r} is named twice.", stage="pull", action=action)
        files[relpath] = md5
    for relpath in files:
        clash = next((p for p in _parents(relpath) if p in files), None)
        if clash:
            raise RemoteError(f"{name} is hostile: {clash!r} is both a file and a folder.", stage="pull", action=action)
    return dict(sorted(files.items()))


def listing_bytes(files: Mapping[str, str]) -> bytes:
    """DVC's own serialisation of a listing: its md5 + ``.dir`` is what a ``.dvc`` file records."""
    rows = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    return json.dumps(rows, sort_keys=True).encode("utf-8")


def listing_md5(files: Mapping[str, str]) -> str:
    """``<md5>.dir`` of {relative path: md5}; equal to a Tracked.md5 only when every name and every byte is as
    promised."""
    return hashlib.md5(listing_bytes(files), usedforsecurity=False).hexdigest() + ".dir"


def hash_folder(folder: Path) -> dict[str, str]:
    """{relative POSIX path: md5} of every file below ``folder``, read now; empty when there is no folder.

    Raises DataError for a linked folder below it: writing there would leave the data.
    """
    files: dict[str, str] = {}
    for at, folders, names in os.walk(folder):
        for name in folders:
            if (Path(at) / name).is_symlink():
                what = f"{Path(at) / name} is a link to another folder."
                raise DataError(what, stage="pull", action="replace the link by a folder; only the data folder itself may be one.")
        for name in names:
            path = Path(at) / name
            files[path.relative_to(folder).as_posix()] = md5_of(path)
    return files


def md5_of(path: Path) -> str:
    """Hex md5 of a file, read in blocks; a dangling link hashes to the empty string. For identity, not for
    security."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()


def _is_plain(relpath: str) -> bool:
    """True for a relative POSIX path that stays inside, has no empty or ``.`` part, and is printable."""
    return is_inside(relpath) and PurePosixPath(relpath).as_posix() == relpath and relpath != "." and relpath.isprintable()


def _parents(relpath: str) -> list[str]:
    return [p.as_posix() for p in PurePosixPath(relpath).parents if p.as_posix() != "."]
