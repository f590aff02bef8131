"""The folder of a site: its manifest, the manifest's signature, and how a folder takes the place of the one
before it. A folder that holds anything else than a site of ours is never touched."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fade.errors import AuditError, SignatureError, UsageError
from fade.governance.keyring import read_keyring
from fade.utils.files import make_folder, storage_error, write_whole
from fade.utils.hashing import canonical, sha256_of
from fade.utils.parsing import parse_json
from fade.utils.reading import LISTING, RECORD, SETTINGS, check_regular, read_bytes
from tasks.registry.signing import is_signed, sign_text

STAGE = "site"
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
KIND, SCHEMA = "fade site", 1
TRUST = "trust nothing in this folder; get it again from whoever made it."


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """An empty folder beside ``out`` that takes its place when the block ends, and is removed when it raises.

    Raises UsageError, before anything is written, when ``out`` is neither absent, empty, nor a site with
    nothing else in it; StorageError."""
    target = out.resolve()
    _check_replaceable(target)
    make_folder(target.parent)
    fresh = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(fresh, ignore_errors=True)  # of a process with this id that was killed
        fresh.mkdir()
        yield fresh
        _check_replaceable(target)
        _swap(fresh, target)
    except OSError as error:
        raise storage_error(
            error, target, STAGE, "free some space, or name another folder with --out."
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _swap(fresh: Path, target: Path) -> None:
    """Two renames: a reader sees the old site or the new one, and for a moment between them neither."""
    before = target.with_name(f".{target.name}.{os.getpid()}.before")
    if target.exists():
        os.replace(target, before)
    try:
        os.replace(fresh, target)
    except OSError:
        if before.exists():
            os.replace(before, target)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _check_replaceable(target: Path) -> None:
    action = "name another folder with --out, or an empty one."
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise UsageError(f"{target} is no folder.", stage=STAGE, action=action)
    if not any(target.iterdir()):
        return
    try:
        own: Mapping[str, str] = read_manifest(target)["files"]
    except AuditError:
        what = f"{target} holds files, and is no site of `fade site`."
        raise UsageError(what, stage=STAGE, action=action) from None
    folders = {parent.as_posix() for name in own for parent in Path(name).parents}
    for path in sorted(target.rglob("*")):
        name = path.relative_to(target).as_posix()
        if not (name in folders if _is_folder(path) else _is_own(path, name, own)):
            what = f"{target} holds {name!r}, which is not of the site."
            raise UsageError(what, stage=STAGE, action=f"move it away, or {action}")


def _is_own(path: Path, name: str, files: Mapping[str, str]) -> bool:
    """Whether a file is as the manifest has it: whoever wrote the manifest may have listed another's file."""
    if not stat.S_ISREG(path.lstat().st_mode):
        return False
    return name in (MANIFEST, SIGNATURE) or (name in files and sha256_of(path) == files[name])


def write_manifest(folder: Path, private_key: str = "") -> Mapping[str, Any]:
    """Write ``manifest.json``, canonical JSON with the sha256 of every other file, and with a key
    ``manifest.sig``. Raises SignatureError, StorageError."""
    files = {name: sha256_of(folder / name) for name in sorted(_regular_files(folder))}
    content = {"kind": KIND, "schema": SCHEMA, "files": files}
    text = canonical(content) + "\n"
    write_whole(folder / MANIFEST, text, stage=STAGE)
    if private_key:
        signature = sign_text(_signed_text(text), Path(private_key))
        write_whole(folder / SIGNATURE, signature + "\n", stage=STAGE)
    return content


def read_manifest(folder: Path) -> Mapping[str, Any]:
    """Raises AuditError when there is none, or it is none of ours."""
    path = folder / MANIFEST
    try:
        content = parse_json(read_bytes(path, RECORD, links=False))
        if (content["kind"], content["schema"]) != (KIND, SCHEMA):
            raise ValueError("of another kind or schema")
        files = {str(name): str(digest) for name, digest in content["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{path} is no manifest of a site: {error}."
        raise AuditError(what, stage=STAGE, action="name the folder that `fade site` wrote.") from None
    return {**content, "files": files}


def verify_manifest(folder: Path) -> Mapping[str, str]:
    """The files of the manifest with their sha256. Raises AuditError that names the first file which is
    missing, additional, changed or no regular file."""
    files: Mapping[str, str] = read_manifest(folder)["files"]
    present = set(_regular_files(folder))
    for name in sorted({*files} - present):
        raise AuditError(f"{name} is missing.", stage=STAGE, action=TRUST)
    for name in sorted(present - {*files}):
        raise AuditError(f"{name} is not of the manifest.", stage=STAGE, action=TRUST)
    for name, digest in sorted(files.items()):
        try:
            check_regular(folder / name, LISTING)
        except OSError as error:
            raise AuditError(f"{name} is refused: {error}.", stage=STAGE, action=TRUST) from None
        if sha256_of(folder / name) != digest:
            what = f"{name} has other bytes than {MANIFEST} names."
            raise AuditError(what, stage=STAGE, action=TRUST)
    return files


def verify_manifest_signature(folder: Path, public_key: str) -> None:
    """Raises SignatureError when the manifest is not signed, or not by an active key of the file."""
    path = folder / SIGNATURE
    try:
        signature = read_bytes(path, SETTINGS, links=False).decode("ascii", "replace").strip()
        text = read_bytes(folder / MANIFEST, RECORD, links=False).decode("utf-8", "replace")
    except OSError as error:
        what = f"{folder} is not signed: {SIGNATURE}: {error.strerror}."
        action = "have it made where signing.private_key is set."
        raise SignatureError(what, stage=STAGE, action=action) from None
    active = [key for key in read_keyring(Path(public_key)).keys if key.closed is None]
    if not any(is_signed(_signed_text(text), signature, key.pem) for key in active):
        what = f"{public_key} does not verify {MANIFEST}."
        raise SignatureError(what, stage=STAGE, action=TRUST)


def _signed_text(text: str) -> str:
    """With the kind: a signature over an entry of a log is none over a manifest."""
    return f"{KIND}\n{text}"


def _regular_files(folder: Path) -> Iterator[str]:
    """Every file below the folder, manifest and signature aside. Raises AuditError for a link or a special
    file."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if _is_folder(path) or name in (MANIFEST, SIGNATURE):
            continue
        if not stat.S_ISREG(path.lstat().st_mode):
            raise AuditError(f"{name} is no regular file.", stage=STAGE, action=TRUST)
        yield name


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write texts and bytes below a folder that nobody reads yet. Raises StorageError."""
    for name, body in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(body) if isinstance(body, str) else body)
        except OSError as error:
            raise storage_error(error, path, STAGE) from error


def encoded(text: str) -> bytes:
    """UTF-8; half of a surrogate pair, which has none, as JSON escapes it."""
    return text.encode("utf-8", "backslashreplace")
