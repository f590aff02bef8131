"""Models of a hub: their local directory, filled with the files that are needed, and where they are from."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fade.errors import BaseModelError
from fade.models.part_files import Find
from fade.utils.notes import note
from fade.utils.reading import MIB, read_text

_LICENCE = re.compile(r"^license(?:_name)?:\s*[\"']?([\w.+-]{1,80})[\"']?\s*$", re.MULTILINE)
_SNAPSHOTS = "snapshots"
_fetched: dict[tuple[str, str], Path] = {}
TRACKED = ("data/", "worlds/")
"""Where the folders lie that .dvc files of a project track: what is missing there was not pulled, and is no
model of a hub."""
Select = Callable[[Find], object]
"""Finds, through `Find`, every file of a model that is needed."""


def is_hub_id(where: str) -> bool:
    """Whether ``where`` is ``owner/name`` or ``owner/name@revision`` and no local path."""
    local = where.startswith((".", "/", *TRACKED))
    return not local and not os.path.lexists(where) and where.count("/") == 1


def fetch(where: str, stage: str, select: Select, action: str) -> Path:
    """The directory of a hub id in the hub's cache, with every file that ``select`` looks up.

    A revision that is no commit is resolved once a process: all files are of one commit. Offline, the cache
    alone is asked. Raises BaseModelError."""
    if (known := _fetched.get((where, stage))) is not None and known.is_dir():
        return known
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    name, _, revision = where.partition("@")
    pinned: list[str] = [revision] if revision else []

    def find(file: str) -> Path | None:
        try:
            path = Path(hf_hub_download(name, file, revision=pinned[0] if pinned else None))
        except LocalEntryNotFoundError:
            if constants.HF_HUB_OFFLINE:
                return None
            raise  # the hub does not answer: the file may exist
        except EntryNotFoundError:
            return None
        pinned[:] = [revision_of(path) or revision]
        return path

    try:
        if (first := find("model_index.json" if stage == "base" else "config.json")) is None:
            what = f"{where} is no local directory and is not in the hub's cache."
            raise BaseModelError(what, stage=stage, action=action)
        select(find)
        find("README.md")  # its licence
    except (HfHubHTTPError, OSError, ValueError) as error:
        why = " ".join(str(error).split())[:300]
        what = f"{where} is no local directory and cannot be fetched: {why}."
        raise BaseModelError(what, stage=stage, action=action) from error
    if pinned[0] != revision:
        note(f"{where} is at the revision {pinned[0]}; pin it: {name}@{pinned[0]}.")
    return _fetched.setdefault((where, stage), first.parent)


def revision_of(path: Path) -> str:
    """The commit of a path in the hub's cache; "" for any other."""
    parts = path.parts
    at = len(parts) - 1 - parts[::-1].index(_SNAPSHOTS) if _SNAPSHOTS in parts else -1
    return parts[at + 1] if 0 < at < len(parts) - 1 and parts[at - 1].startswith("models--") else ""


def origin(where: str, home: Path) -> dict[str, Any]:
    """``{"id", "revision", "licence"}`` of a model's directory, as far as known: a hub id and its commit; the
    licence of the model card's front matter."""
    revision, licence = revision_of(home), _licence(home / "README.md")
    known = {"id": where.partition("@")[0] if revision else "", "revision": revision, "licence": licence}
    return {key: value for key, value in known.items() if value}


def _licence(card: Path) -> str:
    try:
        text = read_text(card, MIB)
    except OSError:
        return ""
    front = text.split("---", 2)
    found = _LICENCE.findall(front[1]) if len(front) == 3 and not front[0].strip() else []
    return str(found[-1]) if found else ""
