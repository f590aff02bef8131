"""`fade release`: choose the champions -> add up -> evaluate -> register -> decide. The same champions again:
nothing is made twice."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect import runtime as prefect_runtime

from fade.config import Params
from fade.errors import PromotionError
from fade.governance.promotion import PROMOTE, REJECT, STATES
from fade.governance.release_plan import STAGE, key, release_name, shortfalls, taken_back
from fade.provenance.lineage import collect
from fade.run.context import RunContext
from fade.utils import progress
from fade.utils.files import make_folder, write_json
from fade.utils.locks import hold
from flows.erase import Clock, inputs, unchanged
from tasks.data.pull import pull_task
from tasks.registry.connection import Tracking, connect
from tasks.registry.decision_log import REVOKED
from tasks.registry.decisions import decide
from tasks.registry.lineage import read
from tasks.registry.register import register_task
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.versions import parts_of, resolve, revoked_parts
from tasks.release.build_release import Chosen, add_up, choose, find_release, record_of, weigh
from tasks.release.release_report import make_release_report
from tasks.stages.mine import mine

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Asked:
    """The command line's wishes."""

    params: Params
    runs: Path = Path("runs")
    root: Path = Path()
    overrides: Sequence[str] = ()
    params_file: str = "params.yaml"
    by: str = ""
    override: str = ""
    """Why it may become current although it falls short."""


def planned(asked: Asked) -> dict[str, Any]:
    """What `release` would do; nothing is written but the adapters' cache. Raises as `release`."""
    tracking = connect(asked.runs, timeout=asked.params.register_.timeout_seconds)
    chosen = choose(tracking, asked.params, asked.runs, asked.params.signing.public_key)
    existing = find_release(tracking, chosen, asked.params)
    return {
        **_told(tracking, asked, chosen),
        "version": str(existing.version) if existing else None,
        "made": False,
    }


def release(asked: Asked) -> dict[str, Any]:
    """Make the release of all champions, unless it is there, and make it current when it passes the gate.

    Returns what `fade release --json` prints; ``current`` False and ``refused`` say that it was registered,
    but did not pass, or was taken back before. Raises PromotionError, AdapterError, SignatureError,
    RegistryError and whatever mining and judging raise."""
    from flows.server import runtime

    tracking = connect(asked.runs, timeout=asked.params.register_.timeout_seconds)
    chosen = choose(tracking, asked.params, asked.runs, asked.params.signing.public_key)
    told = _told(tracking, asked, chosen)
    existing, seconds = find_release(tracking, chosen, asked.params), {}
    if existing is None:
        runtime.start_ahead()
        number, seconds = runtime.run(make, asked=asked, chosen=chosen)
        label = f"{told['name']}/{number}"
        existing = resolve(RegistrySnapshot.load(tracking, told["name"]), label)
    outcome = _decided(tracking, asked, existing)
    return {**told, "version": str(existing.version), "made": bool(seconds), **outcome, "seconds": seconds}


@flow(name="release", validate_parameters=False)
def make(asked: Asked, chosen: Chosen) -> tuple[str, dict[str, float]]:
    """Add up, evaluate, register. Returns the version's number and the seconds of each stage."""
    params, clock = asked.params, Clock()
    name = release_name(params.register_.model_prefix)
    folder = (
        asked.runs / "release" / name / key(chosen.parts, params, signed=bool(params.signing.private_key))
    )
    make_folder(folder)
    run = RunContext(params, chosen.concepts, asked.runs, asked.root)
    with hold(folder.parent, "a release is being made", STAGE):
        with clock.stage("pull"):
            pulled = pull_task(params.data, asked.root, asked.runs)
        with clock.stage("mine"):
            before = inputs(run)
            neighborhood = mine(run)
        with clock.stage("compose"):
            sha256 = add_up(run, chosen, folder)
        opened = collect(
            params,
            overrides=asked.overrides,
            data_md5=pulled.md5,
            data_files=pulled.files,
            data_size=pulled.size,
            base_sha256=run.base.sha256,
            judge_sha256=run.judge.sha256,
            neighbourhood=neighborhood.to_json(),
            inputs=before,
            device=str(run.base.device),
            precision=str(next(run.base.unet.parameters()).dtype).removeprefix("torch."),
            flow_run_id=str(prefect_runtime.flow_run.id or ""),
        )
        with clock.stage("evaluate"):
            weighed = weigh(run, neighborhood, chosen, folder)
            lineage = unchanged(record_of(opened, inputs(run), sha256, chosen, weighed))
            lineage.save(folder / "lineage.json")
        with clock.stage("register"):
            make_release_report(
                run, neighborhood, chosen, weighed, lineage.content, clock.seconds, _command(asked), folder
            )
            progress.report("register", 0, 1, "MLflow")
            done = register_task(
                weighed.judged.numbers,
                params,
                lineage.content,
                folder,
                runs=asked.runs,
                root=asked.root,
                name=name,
            )
            progress.report("register", 1, 1, "MLflow")
    write_json(folder / "result.json", {"name": done.name, "version": done.version, "seconds": clock.seconds})
    return done.version, clock.seconds


def _told(tracking: Tracking, asked: Asked, chosen: Chosen) -> dict[str, Any]:
    """The champions, and what is different from the current release."""
    name = release_name(asked.params.register_.model_prefix)
    snapshot = RegistrySnapshot.load_model(tracking, name, asked.params.signing.public_key)
    version = snapshot.champion(name)
    held, now = set(parts_of(version)) if version else set(), {part.label for part in chosen.parts}
    return {
        "name": name,
        "parts": [part.label for part in chosen.parts],
        "concepts": chosen.concepts,
        "left_out": chosen.left_out,
        "was_current": str(version.version) if version else None,
        "was_current_holds_revoked": revoked_parts(snapshot, version) if version else [],
        "parts_in": sorted(now - held),
        "parts_out": sorted(held - now),
    }


def _decided(tracking: Tracking, asked: Asked, version: ModelVersion) -> dict[str, Any]:
    """Make the release current, when it may be. A rollback is not undone by making the same release again."""
    gate, name, number = asked.params.gate, str(version.name), str(version.version)
    found, record = (
        RegistrySnapshot.load(tracking, name).standing(name),
        read(tracking, version).lineage.content,
    )
    numbers = {
        "adapter_sha256": record["outputs"]["adapter_sha256"],
        "concepts_judged": record["outputs"]["parts"],
        "metrics": record["outputs"]["whole"]["metrics"],
    }
    if found.champion == number:
        return {**numbers, "current": True, "refused": ""}
    label, short = f"{name}/{number}", shortfalls(record, gate)
    back = taken_back(found, number)
    if found.states.get(number) == REVOKED:
        raise PromotionError(
            f"{label} holds just these champions and was revoked.",
            stage=STAGE,
            action="promote another champion first.",
        )
    if not asked.override and (short or back or found.states.get(number) == STATES[REJECT]):
        refused = f"{label} is registered, but not current: "
        if short:
            refused += f"{'; '.join(short)}."
        elif back:
            refused += f"{back.by} took it back ({back.reason})."
        else:
            refused += "it was rejected."
        return {**numbers, "current": False, "refused": refused}
    done = decide(
        PROMOTE,
        label,
        asked.runs,
        gate,
        by=asked.by,
        reason="",
        override=asked.override,
        public_key=asked.params.signing.public_key,
        private_key=asked.params.signing.private_key,
    )
    return {**numbers, "current": True, "refused": "", "decision": done}


def _command(asked: Asked) -> str:
    elsewhere = [] if asked.params_file == "params.yaml" else ["--params", asked.params_file]
    return shlex.join(
        ["fade", "release", *elsewhere, *(part for item in asked.overrides for part in ("--set", item))]
    )
