"""A release: the champions found and checked, added up, judged concept by concept, and recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import Params
from fade.data.vocabulary import TOGETHER, fill
from fade.errors import AdapterError
from fade.governance.release_plan import STAGE, Part, key, numbers_of, plan, release_name, worst
from fade.provenance.lineage import Lineage
from fade.run.context import RunContext
from fade.utils import progress
from fade.utils.files import write_json, write_whole
from fade.utils.hashing import sha256_of
from tasks.registry.connection import Tracking
from tasks.registry.models import all_versions, model_name
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.verify import verify_content
from tasks.registry.versions import ADAPTER, fetch, resolve

if TYPE_CHECKING:
    import numpy as np
    from mlflow.entities.model_registry import ModelVersion

    from fade.mining.neighborhood import Neighborhood
    from tasks.stages.evaluate import EvaluationResult


@dataclass(frozen=True)
class Chosen:
    """What a release is made of."""

    parts: list[Part]
    adapters: dict[str, Path]
    """Label of a part -> its adapter's file."""
    left_out: list[str]
    """Champions that erase a style: another judge knows styles."""

    @property
    def concepts(self) -> list[str]:
        return [concept for part in self.parts for concept in part.concepts]


def choose(tracking: Tracking, params: Params, runs: Path, public_key: str) -> Chosen:
    """The champion, by the decisions, of every concept's model; each one's record, bytes, header and
    signature are verified.

    Raises PromotionError (no champion, a concept twice, a broken chain), AdapterError (several bases; a
    champion's bytes or header), RegistryError (a champion's record), SignatureError."""
    parts: list[Part] = []
    adapters: dict[str, Path] = {}
    left_out: list[str] = []
    snapshot = RegistrySnapshot.load(tracking, params.register_.model_prefix, public_key)
    for version in _champions(snapshot):
        traced, adapter = verify_content(snapshot, version, runs)
        label, record = f"{traced.name}/{traced.version}", traced.lineage.content
        if record["params"]["values"].get("data", {}).get("erase") == "styles":
            left_out.append(label)
            continue
        parts.append(_part(traced.name, traced.version, traced.lineage))
        adapters[label] = adapter
    return Chosen(plan(parts), adapters, sorted(left_out))


def _champions(snapshot: RegistrySnapshot) -> list[ModelVersion]:
    def of_a_concept(version: ModelVersion) -> bool:  # and not of another prefix
        target = version.tags.get("target", "")
        return bool(target) and version.name == model_name(snapshot.prefix, target)

    return list(filter(of_a_concept, snapshot.champions()))


def _part(name: str, version: str, lineage: Lineage) -> Part:
    record = lineage.content
    unchanged = {
        "name": "inputs unchanged",
        "severity": "critical",
        "success": record["inputs"]["unchanged"] is True,
    }
    return Part(
        name=name,
        version=version,
        concepts=tuple(str(record["neighbourhood"]["target"]).split(TOGETHER)),
        adapter_sha256=str(record["outputs"]["adapter_sha256"]),
        lineage_sha256=lineage.sha256(),
        base_sha256=str(record["base"]["sha256"]),
        data_md5=str(record["data"]["md5"]),
        checks={**(record.get("checks") or {}), "record": [unchanged]},
    )


def find_release(tracking: Tracking, chosen: Chosen, params: Params) -> ModelVersion | None:
    """The release of just these champions under these settings, if there is one. Where nothing is signed a
    signed one will do."""
    wanted = {
        key(chosen.parts, params, signed=signed)
        for signed in ({True} if params.signing.private_key else {True, False})
    }
    name = release_name(params.register_.model_prefix)
    return next(
        (version for version in all_versions(tracking, name) if version.tags.get("run_key") in wanted), None
    )


def add_up(run: RunContext, chosen: Chosen, folder: Path) -> str:
    """Write the release's adapter; returns its sha256. One champion alone is its own bytes. Raises
    AdapterError."""
    named = chosen.parts[0].base_sha256
    if run.base.sha256 != named:
        what = f"the champions were trained for the base {named[:12]}, data.base is {run.base.sha256[:12]}."
        raise AdapterError(
            what, stage=STAGE, action="set data.base to theirs, or train and promote versions for this one."
        )
    return _sum(run, [chosen.adapters[part.label] for part in chosen.parts], folder / ADAPTER)


def added_again(tracking: Tracking, run: RunContext, labels: Sequence[str], folder: Path, runs: Path) -> str:
    """For an audit: the sha256 of the sum of these versions, revoked or not, written into ``folder``."""
    snapshot = RegistrySnapshot.load_model(tracking, release_name(run.params.register_.model_prefix))
    versions = [resolve(snapshot, label) for label in labels]
    return _sum(run, [fetch(snapshot, version, runs, revoked=True) for version in versions], folder / ADAPTER)


def _sum(run: RunContext, paths: Sequence[Path], out: Path) -> str:
    from fade.adapters.compose import compose

    if len(paths) > 1:
        return compose(run.base.unet, paths, out)
    return sha256_of(write_whole(out, paths[0].read_bytes(), stage=STAGE))


@dataclass(frozen=True)
class Weighed:
    """A release judged: the whole's evaluation, and each concept beside its champion alone."""

    judged: EvaluationResult
    concepts: dict[str, dict[str, Any]]
    """Concept -> metrics, base_metrics, and alone: the metrics of its champion alone, over the same concepts
    and seeds."""
    alone: dict[str, dict[str, np.ndarray]] = field(repr=False)
    """Concept -> concept judged -> pictures by its champion alone."""


def weigh(run: RunContext, neighborhood: Neighborhood, chosen: Chosen, folder: Path) -> Weighed:
    """Judge the release as a whole, and each champion alone on what concerns it.

    What another part erases is nobody's neighbour and not among the unrelated. The original's and the
    champions' pictures come from the cache where their own runs have left them."""
    from tasks.stages.evaluate import EvaluationResult, judge

    found = judge(run, neighborhood, folder / ADAPTER)
    rows = {row["concept"]: row for row in found.numbers["per_concept"]}
    base, erased = ({name: row[which] for name, row in rows.items()} for which in ("base", "erased"))
    rest = list(found.numbers["rest"])
    near = {
        part.target: {"targets": [part.target], "neighbours": part.neighbours, "heldout": part.heldout}
        for part in neighborhood.parts
    }
    concepts: dict[str, dict[str, Any]] = {}
    pictures: dict[str, dict[str, np.ndarray]] = {}
    for done, part in enumerate(chosen.parts):
        progress.report("champions", done, len(chosen.parts), part.label)
        judged_by = list(
            dict.fromkeys([*(n for c in part.concepts for group in near[c].values() for n in group), *rest])
        )
        own, drawn = _alone(run, chosen.adapters[part.label], judged_by)
        for concept in part.concepts:
            groups = {**near[concept], "rest": rest}
            concepts[concept] = {
                **numbers_of(groups, base, erased),
                "alone": numbers_of(groups, base, own)["metrics"],
            }
            pictures[concept] = drawn
    progress.report("champions", len(chosen.parts), len(chosen.parts))
    numbers = {
        **found.numbers,
        "parts": concepts,
        "method": "composition",
        "variant": "sum",
        "neighbours_trained": False,
        "seed": "none",
    }
    write_json(folder / "evaluation.json", numbers)
    return Weighed(EvaluationResult(numbers, found.pictures, found.seconds), concepts, pictures)


def _alone(
    run: RunContext, adapter: Path, names: Sequence[str]
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Of an adapter by itself: how many of each concept's pictures are recognised (percent), and the
    pictures."""
    import numpy as np

    from fade.adapters.lora import LoraAdapter
    from fade.evaluation.accuracy import mean_accuracy, top1

    settings = run.params.evaluate
    seeds = [settings.seed + i for i in range(settings.images_per_concept)]
    prompts = {name: fill(run.generator.sampler.prompt, name) for name in names}
    lora = LoraAdapter.load(run.base, adapter)
    lora.merge()  # as in the evaluation, whose pictures the cache may hold
    try:
        drawn = run.generator.draw(
            list(prompts.values()),
            seeds,
            sha256_of(adapter),
            lambda done, total: progress.report("champions", done, total, adapter.name),
        )
    finally:
        lora.remove()
    pictures = {name: drawn[prompt].pixels for name, prompt in prompts.items()}
    odds = np.split(run.judge(np.concatenate(list(pictures.values()))).numpy(), len(names))
    right = {
        name: mean_accuracy([top1(one, run.judge.index(name))]) for name, one in zip(names, odds, strict=True)
    }
    return right, pictures


def record_of(
    opened: Lineage, after: Mapping[str, str], adapter_sha256: str, chosen: Chosen, weighed: Weighed
) -> Lineage:
    """The release's closed record: that of a run, with its parts, every concept's numbers, and the worst ones
    where the gate reads."""
    checks = {f"{part.label} {stage}": some for part in chosen.parts for stage, some in part.checks.items()}
    closed = opened.finish(after, adapter_sha256, checks=checks)
    whole = {name: weighed.judged.numbers[name] for name in ("metrics", "base_metrics")}
    outputs = {
        **closed.content["outputs"],
        **worst(weighed.concepts),
        "parts": weighed.concepts,
        "whole": whole,
    }
    parts = {part.label: part.to_json() for part in chosen.parts}
    return Lineage({**closed.content, "outputs": outputs, "parts": parts, "left_out": chosen.left_out})
