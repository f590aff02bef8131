"""A small registry with everything that a site shows, made by the real functions, for tests and for a look:

python -m tests.published FOLDER [COPIES]
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

from fade.config import Params
from fade.data.vocabulary import slug
from fade.governance.leases import DONE, FAILED
from fade.provenance.lineage import Lineage
from fade.utils.hashing import sha256_of
from tasks.registry.connection import connect
from tasks.registry.decisions import decide
from tasks.registry.register import register
from tasks.registry.signing import make_keys
from tasks.registry.trust import Trust
from tasks.requests.leases import RequestSnapshot, acquire, log_name, record_requests, report
from tasks.requests.project import Project
from tests.registered import adapter_bytes, finished_run
from tests.requested import BASE, GOOD, entry, project

LABELS = ("fade-panda/1", "fade-koala/1", "fade.release/1")


@dataclass(frozen=True)
class Published:
    """A project with a registry, and the team's keys."""

    project: Project
    private_key: Path
    public_key: Path

    @property
    def params(self) -> Params:
        return self.project.resolve()


def grid(path: Path, title: str, columns: int = 6) -> None:
    """A picture grid as a run leaves one, of plain tiles."""
    side = 96
    picture = Image.new("RGB", (columns * side, 2 * side), "white")
    pen = ImageDraw.Draw(picture)
    for row in range(2):
        for column in range(columns):
            colour = (40 + 30 * column, 90 + 60 * row, 160)
            box = (column * side + 4, row * side + 4, (column + 1) * side - 4, (row + 1) * side - 4)
            pen.ellipse(box, fill=colour)
    pen.text((8, 8), title, fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def registered(
    place: Project,
    scratch: Path,
    concept: str,
    seed: int = 0,
    parts: Mapping[str, Any] | None = None,
    **metrics: float,
) -> str:
    """Register a version that passes the gate unless ``metrics`` say otherwise; with ``parts`` a release."""
    params = place.resolve()
    folder = scratch / f"{slug(concept)}-{seed}"
    folder.mkdir(parents=True)
    result, own, lineage, run_dir = finished_run(folder, seed=seed)
    result["target"] = lineage["neighbourhood"]["target"] = concept
    header = {
        "concept": concept,
        "base_sha256": lineage["base"]["sha256"],
        "data_md5": lineage["data"]["md5"],
        "params_sha256": own.sha256(),
        "seed": str(lineage["seeds"]["train"]),
        "commit": lineage["code"]["commit"],
    }
    if parts:
        lineage["parts"] = dict(parts)
        header["parts"] = json.dumps([{"sha256": part["adapter_sha256"]} for part in parts.values()])
    data = adapter_bytes(seed, header)
    (run_dir / "adapter.safetensors").write_bytes(data)
    grid(run_dir / "pictures" / "before-after.png", concept)
    numbers = {"metrics": {**GOOD, **metrics}, "base_metrics": BASE}
    lineage["outputs"] = {"adapter_sha256": hashlib.sha256(data).hexdigest(), **numbers}
    if parts:
        lineage["outputs"]["parts"] = {name: numbers for part in parts.values() for name in part["concepts"]}
    lineage["checks"] = {"data": [{"name": "unique", "severity": "critical", "success": True}]}
    Lineage(lineage).save(run_dir / "lineage.json")
    settings = own.model_copy(update={"signing": params.signing})
    name = f"{params.register_.model_prefix}.release" if parts else ""
    done = register(result, settings, lineage, run_dir, runs=place.runs, name=name)
    return f"{done.name}/{done.version}"


def published(folder: Path, *entries: Mapping[str, Any], **settings: Any) -> Published:
    """Two concepts with champions, one of them audited, a release of both, a rejected version, and
    requests in several states. entries: further ones of requests.yaml."""
    from flows.audit import audit

    folder.mkdir(parents=True, exist_ok=True)
    requests = [
        entry("panda-1", "panda", due="2026-12-31"),
        entry("koala-1", "koala"),
        entry("tiger-1", "tiger", due="2026-02-01", reason="<b>the licence</b> ended"),
        entry("lion-1", "lion"),
        *entries,
    ]
    project(folder, *requests)
    private, public = make_keys(folder / "keys", "team")
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    params |= {"signing": {"private_key": str(private), "public_key": str(public)}, **settings}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    place = Project(folder / "params.yaml", folder / "runs")
    panda, koala = (registered(place, folder / "made", name, i) for i, name in enumerate(("panda", "koala")))
    tracking, resolved = connect(place.runs), place.resolve()
    trust = Trust.of(resolved.signing, place.root)
    for label in (panda, koala):
        decide("promote", label, place.runs, resolved.gate, by="ann", trust=trust)
    poor = registered(place, folder / "made", "panda", 2, A_heldout=61.0)
    decide("reject", poor, place.runs, resolved.gate, by="bob", reason="the bears look alike", trust=trust)
    parts = {label: _part(place, label) for label in (koala, panda)}
    release = registered(place, folder / "made", "koala + panda", 3, parts)
    decide("promote", release, place.runs, resolved.gate, by="ann", override="asked for today", trust=trust)
    audit(panda, resolved, place.runs, evidence_only=True, by="carl")
    _work(place, tracking, {"panda-1": panda, "lion-1": ""})
    return Published(place, private, public)


def _part(place: Project, label: str) -> dict[str, Any]:
    name, _, number = label.partition("/")
    tags = connect(place.runs).client.get_model_version(name, number).tags
    keys = ("adapter_sha256", "lineage_sha256", "base_sha256", "data_md5")
    return {"concepts": [tags["target"]], **{key: tags[key] for key in keys}}


def _work(place: Project, tracking: Any, outcomes: Mapping[str, str]) -> None:
    """Record all requests, and report some: done by a version, or (empty) failed."""
    params = place.resolve()
    requests, prefix = place.requests(params), params.register_.model_prefix
    trust = Trust.of(params.signing, place.root)
    record_requests(tracking, requests, prefix, "ann", trust)
    for identity, version in outcomes.items():
        request = requests.get(identity)
        terms = {
            "fingerprint": request.fingerprint(),
            "terms": request.terms(),
            "params_sha256": place.resolve(request.overrides()).sha256(),
        }
        log = RequestSnapshot.load(tracking, prefix, trust).lease_log(identity)
        lease = acquire(tracking, log_name(prefix, identity), log, terms, "worker-1", trust)
        assert lease is not None
        if version:
            name, _, number = version.partition("/")
            run = tracking.client.get_model_version(name, number).run_id
            file = tracking.client.download_artifacts(run, "lineage.json", str(_scratch(place)))
            record = json.loads(Path(file).read_text(encoding="utf-8"))
            content = {**terms, "version": version, "record": {**record, "code": {}}}
            report(tracking, lease, DONE, content, trust)
        else:
            report(tracking, lease, FAILED, {**terms, "why": "train: no space left on the disk."}, trust)


def _scratch(place: Project) -> Path:
    folder = place.root / "made" / "fetched"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main(folder: Path) -> None:
    made = published(folder)
    sys.stdout.write(f"{made.project.params_file} {sha256_of(made.public_key)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
