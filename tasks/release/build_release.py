"""Build a release: the champions selected and verified, and one adapter made of theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import Params, ReleaseConfig
from fade.data.vocabulary import TOGETHER
from fade.errors import AdapterError, AuditError, PromotionError, UnknownNameError
from fade.governance.audit import STAGE as AUDIT
from fade.governance.release_plan import STAGE, Part, is_solved, key, plan, release_name
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

    from fade.adapters.release import BuiltRelease, ReleaseSettings


@dataclass(frozen=True)
class ReleaseParts:
    """The champions that a release is made of."""

    parts: list[Part]
    adapters: dict[str, Path]
    """Label of a part -> its adapter's file."""
    left_out: list[str]
    """Champions that erase a style: another judge knows styles."""

    def without(self, concepts: Sequence[str]) -> ReleaseParts:
        """Those that erase none of ``concepts``. Raises UnknownNameError for one that no champion erases,
        PromotionError when no champion is left."""
        for name in concepts:
            if name not in self.concepts:
                raise UnknownNameError("erased concept", name, self.concepts, stage=STAGE)
        stay = [part for part in self.parts if not {*part.concepts} & {*concepts}]
        if not stay:
            action = "name fewer with --without."
            raise PromotionError("every champion is left out.", stage=STAGE, action=action)
        adapters = {part.label: self.adapters[part.label] for part in stay}
        return ReleaseParts(stay, adapters, self.left_out)

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
            snapshot.binding(version)  # a tag that was changed takes no concept out of a release
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


def release_key(selected: ReleaseParts, params: Params, root: Path, *, signed: bool) -> str:
    """`fade.governance.release_plan.key` with the data of now. Raises DataError where a solved release has no
    data."""
    from tasks.data.pull import pictures_md5

    data_md5 = pictures_md5(params.data, root) if is_solved(selected.parts, params) else ""
    return key(selected.parts, params, signed=signed, data_md5=data_md5)


def find_release(
    tracking: Tracking, selected: ReleaseParts, params: Params, root: Path = Path()
) -> ModelVersion | None:
    """The release of just these champions under these settings, or None. Without a private key a signed one
    counts, too. Raises as `release_key`."""
    signed = {True} if params.signing.private_key else {True, False}
    keys = {release_key(selected, params, root, signed=one) for one in signed}
    versions = all_versions(tracking, release_name(params.register_.model_prefix))
    return next((version for version in versions if version.tags.get("run_key") in keys), None)


def release_settings(run: RunContext, selected: ReleaseParts) -> ReleaseSettings:
    """What decides a release beside its champions and the base: the section `release`, the split of the
    vocabulary, and the prompts' templates."""
    from fade.adapters.adapter_file import read_provenance
    from fade.adapters.kept import KeptConcepts
    from fade.adapters.release import ReleaseSettings
    from fade.governance.stored_values import parse_names

    near: set[str] = set()
    for label, path in selected.adapters.items():
        near |= {*parse_names(read_provenance(path).get("neighbours", "[]"), f"{label}: its neighbours")}
    config, sampler = run.params.release, run.params.sampler
    kept = KeptConcepts.of(run.vocabulary.names, selected.concepts, near, config)
    return ReleaseSettings(config, kept, sampler.prompt, sampler.negative_prompt)


def build_champions(
    run: RunContext, selected: ReleaseParts, settings: ReleaseSettings, folder: Path
) -> BuiltRelease:
    """Write the release's adapter into ``folder``. One champion alone keeps its bytes. Raises AdapterError
    for champions of another base."""
    from fade.adapters.release import BuiltRelease, build_release

    _require_base(run, selected)
    paths = [selected.adapters[label] for label in selected.labels]
    if len(paths) == 1:
        return BuiltRelease(_copied(paths[0], folder / ADAPTER))
    return build_release(run.models.base, paths, folder / ADAPTER, settings, run.cache)


def predict_champions(run: RunContext, selected: ReleaseParts, settings: ReleaseSettings) -> dict[str, Any]:
    """The release's interaction table without the release (`ReleaseBuilder.predict`); empty for one champion
    alone. Raises as `build_champions`."""
    from fade.adapters.release import predict_release

    _require_base(run, selected)
    paths = [selected.adapters[label] for label in selected.labels]
    return predict_release(run.models.base, paths, settings, run.cache) if len(paths) > 1 else {}


def require_not_revoked(tracking: Tracking, params: Params, selected: ReleaseParts, root: Path) -> None:
    """Raises PromotionError for a champion that was revoked after it was selected: nothing of its release is
    registered."""
    trust = Trust.of(params.signing, root)
    snapshot = RegistrySnapshot.load(tracking, params.register_.model_prefix, trust)
    for label in selected.labels:
        version = snapshot.version(label)
        if version is None or snapshot.revoked_as(version):
            what = f"{label} was revoked while the release was built; nothing was registered."
            raise PromotionError(what, stage=STAGE, action="`fade release` builds it from the others.")


def _require_base(run: RunContext, selected: ReleaseParts) -> None:
    base, own = selected.parts[0].base_sha256, run.models.base.sha256
    if not run.models.base.is_base(base):
        what = f"the champions were trained for the base {base[:12]}, data.base is {own[:12]}."
        action = world_hint(run.params, selected.parts[0].data_md5) or "set data.base to theirs"
        action = f"{action.removesuffix('.')}, or train and promote versions for this one."
        raise AdapterError(what, stage=STAGE, action=action)


def recorded_settings(record: Mapping[str, Any]) -> ReleaseSettings:
    """How a release was built; a record of before there was another way is of a sum. Raises AuditError for a
    record that does not say it in full."""
    from fade.adapters.kept import KeptConcepts
    from fade.adapters.release import ReleaseSettings

    if "release" not in record:
        return ReleaseSettings(ReleaseConfig(mode="sum"), KeptConcepts((), ()), prompt="{concept}")
    try:
        return ReleaseSettings.from_json(record["release"]["settings"])
    except (KeyError, TypeError, ValueError) as error:
        what = f"the record does not say how the release was built ({type(error).__name__})."
        raise AuditError(what, stage=AUDIT, action="do not use it; make another.") from error


def rebuild_versions(
    tracking: Tracking, run: RunContext, labels: Sequence[str], settings: ReleaseSettings, folder: Path
) -> str:
    """Write the release of these versions, revoked or not, into ``folder``; returns its sha256. For an audit:
    nothing that an earlier build stored is read."""
    from fade.adapters.release import ReleaseBuilder

    name, trust = release_name(run.params.register_.model_prefix), Trust.of(run.params.signing, run.root)
    snapshot = RegistrySnapshot.load_model(tracking, name, trust)
    versions = [resolve(snapshot, label) for label in labels]
    paths = [fetch(snapshot, version, run.runs, revoked=True) for version in versions]
    if len(paths) == 1:
        return _copied(paths[0], folder / ADAPTER)
    return ReleaseBuilder(run.models.base, paths, settings).write(folder / ADAPTER)


def _copied(champion: Path, out: Path) -> str:
    """The release of one champion alone: its bytes. Returns their sha256."""
    return sha256_of(write_whole(out, champion.read_bytes(), stage=STAGE))
