"""Build a release: the champions selected and verified, and their adapters added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fade.config import Params
from fade.data.vocabulary import TOGETHER
from fade.errors import AdapterError
from fade.governance.release_plan import STAGE, Part, key, plan, release_name
from fade.run.context import RunContext
from fade.run.worlds import world_hint
from fade.utils.files import write_whole
from fade.utils.hashing import sha256_of
from tasks.registry.connection import Tracking
from tasks.registry.lineage import Traced
from tasks.registry.models import all_versions, model_name
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.trust import Trust
from tasks.registry.verify import verify_version
from tasks.registry.versions import ADAPTER, fetch, resolve

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class ReleaseParts:
    """The champions that a release is made of."""

    parts: list[Part]
    adapters: dict[str, Path]
    """Label of a part -> its adapter's file."""
    left_out: list[str]
    """Champions that erase a style: another judge knows styles."""

    @property
    def labels(self) -> list[str]:
        return [part.label for part in self.parts]

    @property
    def concepts(self) -> list[str]:
        return [concept for part in self.parts for concept in part.concepts]


def select_champions(tracking: Tracking, params: Params, runs: Path, root: Path = Path()) -> ReleaseParts:
    """The champion, by the decisions, of every concept's model; each one's record, bytes, header and
    signature are verified.

    Raises PromotionError (no champion, a concept twice, a broken log), AdapterError (several bases; a
    champion's bytes or header), RegistryError (a champion's record), SignatureError."""
    parts: list[Part] = []
    adapters: dict[str, Path] = {}
    left_out: list[str] = []
    trust = Trust.of(params.signing, root)
    snapshot = RegistrySnapshot.load(tracking, params.register_.model_prefix, trust)
    for version in snapshot.champions():
        target = version.tags.get("target", "")
        if not target or version.name != model_name(snapshot.prefix, target):
            continue  # another prefix's
        traced, adapter = verify_version(snapshot, version, runs, parts=False)
        values = traced.lineage.content["params"]["values"]
        if values.get("data", {}).get("erase") == "styles":
            left_out.append(traced.label)
        else:
            parts.append(_part(traced))
            adapters[traced.label] = adapter
    return ReleaseParts(plan(parts), adapters, sorted(left_out))


def _part(traced: Traced) -> Part:
    record = traced.lineage.content
    success = record["inputs"]["unchanged"] is True
    unchanged = {"name": "inputs unchanged", "severity": "critical", "success": success}
    return Part(
        name=traced.name,
        version=traced.version,
        concepts=tuple(str(record["neighbourhood"]["target"]).split(TOGETHER)),
        adapter_sha256=str(record["outputs"]["adapter_sha256"]),
        lineage_sha256=traced.lineage.sha256(),
        base_sha256=str(record["base"]["sha256"]),
        data_md5=str(record["data"]["md5"]),
        base_legacy_sha256=str((record.get("models") or {}).get("base", {}).get("legacy_sha256", "")),
        checks={**(record.get("checks") or {}), "record": [unchanged]},
    )


def find_release(tracking: Tracking, selected: ReleaseParts, params: Params) -> ModelVersion | None:
    """The release of just these champions under these settings, or None. Without a private key a signed one
    counts, too."""
    signed = {True} if params.signing.private_key else {True, False}
    keys = {key(selected.parts, params, signed=one) for one in signed}
    versions = all_versions(tracking, release_name(params.register_.model_prefix))
    return next((version for version in versions if version.tags.get("run_key") in keys), None)


def sum_champions(run: RunContext, selected: ReleaseParts, folder: Path) -> str:
    """Write the release's adapter into ``folder``; returns its sha256. One champion alone keeps its bytes.
    Raises AdapterError for champions of another base."""
    base, own = selected.parts[0].base_sha256, run.models.base.sha256
    if not run.models.base.is_base(base):
        what = f"the champions were trained for the base {base[:12]}, data.base is {own[:12]}."
        action = world_hint(run.params, selected.parts[0].data_md5) or "set data.base to theirs"
        action = f"{action.removesuffix('.')}, or train and promote versions for this one."
        raise AdapterError(what, stage=STAGE, action=action)
    return _sum(run, [selected.adapters[label] for label in selected.labels], folder / ADAPTER)


def sum_versions(tracking: Tracking, run: RunContext, labels: Sequence[str], folder: Path) -> str:
    """Write the sum of these versions, revoked or not, into ``folder``; returns its sha256. For an audit."""
    name, trust = release_name(run.params.register_.model_prefix), Trust.of(run.params.signing, run.root)
    snapshot = RegistrySnapshot.load_model(tracking, name, trust)
    versions = [resolve(snapshot, label) for label in labels]
    paths = [fetch(snapshot, version, run.runs, revoked=True) for version in versions]
    return _sum(run, paths, folder / ADAPTER)


def _sum(run: RunContext, paths: Sequence[Path], out: Path) -> str:
    from fade.adapters.compose import compose

    if len(paths) > 1:
        return compose(run.models.base, paths, out)
    return sha256_of(write_whole(out, paths[0].read_bytes(), stage=STAGE))
