"""The project whose requests are processed: its parameters, its requests.yaml, and how a request is added."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fade.config import Params
from fade.data.manifest import MANIFEST
from fade.data.vocabulary import Vocabulary, slug
from fade.errors import RequestFileError
from fade.governance.request_editing import append_request
from fade.governance.requests import (
    STAGE,
    ErasureRequests,
    Request,
    load_requests,
    parse_requests,
    read_requests,
    same_id,
)
from fade.run.context import RunContext
from fade.run.resolve_params import resolve as resolve_params
from fade.utils.files import writable_file, write_whole
from fade.utils.locks import lock_folder
from tasks.registry.connection import connect
from tasks.registry.trust import Trust
from tasks.requests.leases import RequestSnapshot, record_requests
from tasks.requests.status import today_in

LOCK_SECONDS = 600.0
"""A request is added within seconds; those who add at the same time wait."""


@dataclass(frozen=True)
class Project:
    """A folder with params.yaml, and a runs folder."""

    params_file: Path = Path("params.yaml")
    runs: Path = Path("runs")
    overrides: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        return self.params_file.parent

    def resolve(self, more: Sequence[str] = ()) -> Params:
        """The parameters, read from the file at every call; ``more`` wins. Raises ConfigError."""
        return resolve_params(self.params_file, [*self.overrides, *more])

    def vocabulary(self, params: Params) -> Vocabulary | None:
        """The concepts' names; None when the data is not on this machine."""
        if not (self.root / params.data.images / MANIFEST).is_file():
            return None
        return RunContext(params, "", self.runs, self.root).vocabulary

    def requests(self, params: Params) -> ErasureRequests:
        """The requests as the file has them now. Raises RequestFileError."""
        return load_requests(self.root / params.schedule.requests, self.vocabulary(params), self.resolve)


def add_request(project: Project, fields: Mapping[str, Any]) -> Request:
    """Append a request to requests.yaml, which is made when there is none. An id that is left out is
    CONCEPT-DATE, with a number if that is taken. Raises RequestFileError, StorageError."""
    params = project.resolve()
    path, prefix = project.root / params.schedule.requests, params.register_.model_prefix
    writable_file(path, STAGE)
    busy = f"{path} is being edited"
    # beside the file: those who add to it may have runs folders of their own
    with lock_folder(path.parent, busy, STAGE, name=f".{path.name}.lock", patience=LOCK_SECONDS):
        text = read_requests(path) if path.exists() else ""
        tracking = connect(project.runs, timeout=params.register_.timeout_seconds)
        taken = parse_requests(text, path).ids
        trust = Trust.of(params.signing, project.root)
        taken |= set(RequestSnapshot.load(tracking, prefix, trust).recorded_requests())
        entry = yaml.safe_dump({"requests": [_entry(fields, taken, params)]})
        parsed = parse_requests(entry, path, project.vocabulary(params), project.resolve)
        if parsed.faults:
            what = f"this cannot be asked for: {'; '.join(fault.detail for fault in parsed.faults)}."
            raise RequestFileError(what, stage=STAGE, action="correct it and add it again.")
        (request,) = parsed.requests
        write_whole(path, append_request(text, request), stage=STAGE, sync=True)
        record_requests(tracking, parsed, prefix, request.requested_by, trust)
    return request


def _entry(fields: Mapping[str, Any], taken: set[str], params: Params) -> dict[str, Any]:
    """The request's fields with date and id, without empty ones."""
    today = today_in(params.schedule.timezone)
    given = {key: value for key, value in fields.items() if value not in (None, "", [], {})}
    entry = {"date": today.isoformat(), **given}
    if "id" not in entry:
        first = f"{slug(str(entry.get('concept', '')))[:40]}-{today:%Y%m%d}"
        names = itertools.chain([first], (f"{first}-{i}" for i in itertools.count(2)))
        entry["id"] = next(name for name in names if name not in taken)
    elif any(same_id(str(entry["id"]), one) for one in taken):
        action = "choose another --id; an id is given once, for ever."
        raise RequestFileError(f"{entry['id']!r} is taken.", stage=STAGE, action=action)
    return entry
