"""Make the static site of a registry into a folder, and verify such a folder without the registry."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fade.errors import AuditError, RegistryError, SignatureError, UsageError
from fade.governance.log_names import is_log
from fade.reporting.site.data import SiteData
from fade.reporting.site.render import DATA, render_site
from fade.utils import progress
from fade.utils.hashing import sha256_of
from fade.utils.reading import RECORD, TEXT, read_bytes
from tasks.registry import log_store
from tasks.registry.connection import connect
from tasks.registry.log_store import LEASE_LOG, AppendLog
from tasks.registry.trust import Trust
from tasks.release import site_evidence as evidence
from tasks.release import site_folder
from tasks.release.site_data import BENCHMARK, made_by, open_evidence, site_data
from tasks.release.site_folder import TRUST, encoded
from tasks.release.site_requests import request_rows
from tasks.requests.leases import RequestSnapshot, log_name
from tasks.requests.project import Project

STAGE = "site"
BENCHMARK_FILES = ("benchmark.html", "benchmark.json", "benchmark.md", "frontier.svg")
_SIGNED = {True: "has a signature", False: "has none"}


def make_site(
    project: Project, out: Path, *, benchmark: Path | None = None, pictures: bool = True
) -> dict[str, Any]:
    """Write the site of the project's registry into ``out``, in place of the site that was there.

    benchmark: the folder of a benchmark's report; left out where it has none. Returns ``folder``, counts,
    ``problems`` (what cannot be read, also shown on the pages), and whether the site is signed. Raises
    UsageError (``out`` holds something else), RegistryError (the store), SignatureError, StorageError."""
    params = project.resolve()
    with site_folder.new_folder(out) as folder:
        tracking = connect(project.runs, timeout=params.register_.timeout_seconds)
        trust = Trust.of(params.signing, project.root)
        snapshot = RequestSnapshot.load(tracking, params.register_.model_prefix, trust)
        progress.report(STAGE, 0, 0, "the registry")
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        head = {"made_at": made_at, "generator": made_by(), "prefix": snapshot.prefix}
        evidence.write_json(folder / evidence.SITE, head)
        evidence.write_models(snapshot, folder)
        evidence.write_json(folder / evidence.REQUESTS, request_rows(snapshot, project, params))
        evidence.write_records(tracking, snapshot.adapters(), folder, pictures)
        site_folder.write_files(folder, _own_files(snapshot, benchmark))
        data = site_data(folder)
        site_folder.write_files(folder, render_site(data))
        files = site_folder.write_manifest(folder, trust.private_key)
    return {
        "folder": str(out),
        "files": len(files["files"]),
        "requests": len(data.requests),
        "versions": len(data.versions),
        "overdue": len(data.overdue),
        "problems": [{"what": one.what, "why": one.why} for one in data.problems],
        "signed": bool(trust.private_key),
    }


def _own_files(snapshot: RequestSnapshot, benchmark: Path | None) -> dict[str, bytes]:
    """The witness, the team's public key, and the benchmark's report as far as it is there."""
    files = {evidence.WITNESS: snapshot.witness.to_text().encode()}
    if key := snapshot.trust.public_key:
        files[evidence.PUBLIC_KEY] = _public_key(Path(key))
    if benchmark is not None and (benchmark / BENCHMARK_FILES[0]).is_file():
        present = [name for name in BENCHMARK_FILES if os.path.lexists(benchmark / name)]
        files |= {f"{BENCHMARK}/{name}": _benchmark_file(benchmark / name) for name in present}
    return files


def _benchmark_file(path: Path) -> bytes:
    """Raises UsageError for a link, which could publish any file of this machine, and for what is no file."""
    try:
        return read_bytes(path, RECORD, links=False)
    except OSError as error:
        what = f"{path} is not published: {error.strerror}."
        raise UsageError(what, stage=STAGE, action="name the folder of a report with --benchmark.") from None


def _public_key(path: Path) -> bytes:
    """Raises SignatureError for a file that is not there, or that must not be published."""
    action = "set signing.public_key to the team's."
    try:
        body = read_bytes(path, TEXT)
    except FileNotFoundError:
        raise SignatureError(f"{path} is not there.", stage=STAGE, action=action) from None
    except OSError as error:
        raise SignatureError(
            f"{path} is not published: {error.strerror}.", stage=STAGE, action=action
        ) from None
    if b"PRIVATE" in body:
        raise SignatureError(f"{path} holds a private key.", stage=STAGE, action=action)
    return body


_MALFORMED = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What a reader of the evidence raises for JSON of another shape than a site's."""


def verify_site(folder: Path, public_key: str = "") -> list[dict[str, str]]:
    """What was compared in a site's folder, each row ``what`` and ``found``; nothing outside of the folder is
    read. The first thing that differs is raised and named.

    public_key: PEM file of the team, from elsewhere than the folder; empty: no signature is verified, and a
    row says so. Raises AuditError (files, pages), SignatureError, and what the registry's readers raise of a
    log or a record: PromotionError, AuditError, RegistryError."""
    try:
        return _verify(folder, public_key)
    except _MALFORMED as error:
        what = f"{folder} holds what no site holds: {type(error).__name__}: {error}."
        raise AuditError(what, stage=STAGE, action=TRUST) from error


def _verify(folder: Path, public_key: str) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []

    def add(what: str, found: str) -> None:
        rows.append({"what": what, "found": found})

    files = site_folder.verify_manifest(folder)
    add("manifest", f"{len(files)} files, each with the bytes that it names")
    own = folder / evidence.PUBLIC_KEY
    if public_key:
        site_folder.verify_manifest_signature(folder, public_key)
        if own.is_file() and sha256_of(own) != sha256_of(Path(public_key)):
            what = f"{evidence.PUBLIC_KEY} is another key than {public_key}."
            raise SignatureError(what, stage=STAGE, action="find out which of the two is the team's.")
        add("signature", f"by the owner of {public_key}, over the manifest")
    else:
        signed = (folder / site_folder.SIGNATURE).is_file()
        add("signature", f"not verified: no --public-key was given; the manifest {_SIGNED[signed]}")
    snapshot = open_evidence(folder, public_key)
    by = "verified by the key that was given" if public_key else "not verified by a key from elsewhere"
    add("logs", f"{verify_logs(snapshot)} ({by})")
    data = site_data(folder)
    shown = _shown_problems(folder)
    for problem in data.problems:
        if (problem.what, problem.why) not in shown:
            raise AuditError(f"{problem.what}: {problem.why}", stage=STAGE, action=TRUST)
    hashes = sum(bool(version.lineage_sha256) for version in data.versions)
    add("records", f"{len(data.records)} agree with their versions' tags, {hashes} by their sha256")
    add("pages", _verify_pages(folder, files, data))
    if data.problems:
        first = data.problems[0]
        what = f"{len(data.problems)} record(s) cannot be read, as the pages show: {first.what}: {first.why}"
        raise AuditError(what, stage=STAGE, action="find out why, in the registry.")
    return rows


def _shown_problems(folder: Path) -> set[tuple[str, str]]:
    content = evidence.read_json(folder, DATA)
    rows = content.get("problems", []) if isinstance(content, dict) else []
    return {(str(row["what"]), str(row["why"])) for row in rows}


def verify_logs(snapshot: RequestSnapshot) -> str:
    """Read every log of a snapshot to its end. Raises what its kind raises for a chain that is
    broken or cut, SignatureError, RegistryError for a log of an unknown kind."""
    kinds: dict[str, AppendLog[Any]] = {
        log.kind.KIND: log for log in vars(log_store).values() if isinstance(log, AppendLog)
    }
    entries = signed = 0
    logs = sorted(name for name in snapshot.versions if is_log(name))
    for name in logs:
        versions = snapshot.versions[name]
        kind = next((kinds[tag] for tag in versions[0].tags if tag in kinds), None)
        if kind is None:
            what = f"{name}: entry {versions[0].version} is of no kind that this version knows."
            raise RegistryError(what, stage=STAGE, action=TRUST)
        if kind is LEASE_LOG:
            snapshot.lease_log(name.removeprefix(log_name(snapshot.prefix, "")))
        snapshot.read_log(kind, name)
        entries += len(versions)
        signed += sum(bool(version.tags.get(log_store.SIGNATURE)) for version in versions)
    return f"{len(logs)} unbroken, {entries} entries, {signed} of them signed"


def _verify_pages(folder: Path, files: Mapping[str, str], data: SiteData) -> str:
    """Make the pages again from the evidence. Raises AuditError for one that differs, is missing or is none
    of them."""
    made_by = evidence.read_head(folder)["generator"]
    if made_by != data.generator:
        return f"NOT compared: made by fade-pipeline {made_by}, this is {data.generator}"
    pages = render_site(data)
    for name in [DATA, *sorted(pages)]:
        path = folder / name
        if name not in files or path.read_bytes() != encoded(pages[name]):
            what = f"{name} does not show what the evidence holds."
            raise AuditError(what, stage=STAGE, action=TRUST)
    others = (evidence.FOLDER, BENCHMARK, evidence.PICTURE_FOLDER)
    strangers = [name for name in files if name not in pages and name.split("/")[0] not in others]
    if strangers:
        raise AuditError(f"{strangers[0]} is no page of this evidence.", stage=STAGE, action=TRUST)
    return f"{len(pages)} show what the evidence holds, byte for byte"
