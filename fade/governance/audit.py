"""What an audit says of a version: its record against the record of the same run made again, and the chain of
audits. Ours.

The stages of a run are compared in their order. Everything up to training is an input: it has no reason to
differ. Bytes of the adapter and last digits of the metrics have, on another device, with another number of
processes or with other libraries; then the metrics must lie within the tolerance that the run recorded.
Without such a reason other bytes are another result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fade.errors import AuditError
from fade.governance.append_log import LogEntry
from fade.provenance.lineage import Difference, Lineage, compare

STAGE = "audit"
IDENTICAL, EQUIVALENT, DIFFERENT, MISSING = "identical", "equivalent", "different", "not reproducible"
HOLDS, BROKEN = "evidence holds", "evidence broken"
"""What is said without a re-run."""
VERDICTS = (IDENTICAL, EQUIVALENT, DIFFERENT, MISSING, HOLDS, BROKEN)
GOOD = frozenset({IDENTICAL, EQUIVALENT, HOLDS})
TRAIN, EVALUATE = "train", "evaluate"
STAGES = {
    "code": ("code.version", "code.commit"),
    "data": ("data.",),
    "base": ("base.",),
    "judge": ("judge.",),
    "inputs": ("inputs.",),
    "checks": ("checks.",),
    "params": ("params.values",),
    "seeds": ("seeds.",),
    "neighbourhood": (
        "neighbourhood.target",
        "neighbourhood.neighbours",
        "neighbourhood.heldout",
        "neighbourhood.left_out",
    ),
    TRAIN: ("outputs.adapter_sha256",),
    EVALUATE: ("outputs.metrics", "outputs.base_metrics"),
}
"""Where in a record each stage's outcome stands, as beginnings of dotted paths, in the order of the run."""
REASONS = (
    "environment.python", "environment.platform", "environment.machine", "environment.libraries", "environment.torch_threads",
    "environment.device", "environment.precision", "environment.world_size",
)  # fmt: skip
"""What may move the last bits. The lock of all packages is told, and is no reason: most of them touch no
number."""
TOLERANCE = 2.0
"""Of records from before schema 3, which hold none."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of a comparison."""

    name: str
    """One of VERDICTS."""
    stage: str = ""
    """The first stage that differs, or what is missing."""
    differences: Sequence[Difference] = ()
    """Every recorded and repeated value that differ, in the order of the stages."""
    reasons: Sequence[Difference] = ()
    """What was otherwise around the run."""
    note: str = ""

    @property
    def good(self) -> bool:
        return self.name in GOOD

    def __str__(self) -> str:
        first = next(iter(self.differences), None)
        if self.name == DIFFERENT:
            return f"{self.name}, from stage {self.stage} on: {first}"
        if self.name == EQUIVALENT:
            return f"{self.name}: {first}; {', '.join(one.path.removeprefix('environment.') for one in self.reasons)} differ"
        if self.name == IDENTICAL:
            return f"{self.name}: every stage came out the same"
        return f"{self.name}: {self.stage}" if self.stage else self.name


@dataclass(frozen=True, kw_only=True)
class Audit(LogEntry):
    """One link of the chain of audits of a model."""

    version: str
    verdict: str
    stage: str = ""
    control: str = ""
    """What the control run came out as; empty when there was none."""
    adapter_sha256: str = ""
    lineage_sha256: str = ""
    report_sha256: str = ""
    """Of ``audit.json``."""
    run_id: str = ""
    """MLflow's, whose artifacts the report is."""

    KIND, STAGE, ERROR = "audit", STAGE, AuditError

    @classmethod
    def validated(cls, content: dict[str, Any]) -> dict[str, Any]:
        if content["verdict"] not in VERDICTS:
            raise ValueError("another verdict")
        return content


def judge(record: Lineage, again: Lineage, *, header_only: str = "") -> Verdict:
    """Hold a closed record against that of the same run made again.

    header_only: why the adapters' bytes differ when every weight is the same (`other_header`); then they
    count as the same."""
    everything = compare(record, again)
    reasons = [one for one in everything if one.path.startswith(REASONS)]
    found = {
        stage: [one for one in everything if one.path.startswith(paths)] for stage, paths in STAGES.items()
    }
    if header_only:
        found[TRAIN] = []
    differences = [one for some in found.values() for one in some]
    first = next((stage for stage, some in found.items() if some), "")
    if not first:
        return Verdict(IDENTICAL, reasons=reasons, note=header_only)
    close = all(_within(one, tolerance(record)) for one in found[EVALUATE])
    if first in (TRAIN, EVALUATE) and reasons and close:
        return Verdict(EQUIVALENT, first, differences, reasons)
    return Verdict(DIFFERENT, first, differences, reasons)


def tolerance(record: Lineage) -> float:
    """Points that the record allows a metric to move."""
    return float(record.content.get("audit", {}).get("tolerance", TOLERANCE))


def _within(one: Difference, points: float) -> bool:
    return isinstance(one.a, int | float) and isinstance(one.b, int | float) and abs(one.a - one.b) <= points


def other_header(a: Mapping[str, str], b: Mapping[str, str]) -> str:
    """Why two adapters of the same weights have other bytes: one was trained before, at another commit of the
    same code. Else empty.

    a, b: their headers, as `fade.adapters.lora.read_adapter` gives them.
    """
    differing = sorted(key for key in {*a, *b} if a.get(key) != b.get(key))
    if not differing or not set(differing) <= {
        "commit",
        "params_sha256",
    }:  # neither is in the key of a training
        return ""
    named = ", ".join(f"{key} {a.get(key, '')[:12]}" for key in differing)
    return f"the same weights, trained by an earlier run of the same job, whose {named} the header names"


def same_weights(a: Path, b: Path) -> tuple[bool, str]:
    """Whether every weight of two adapter files is the same, and then why their bytes differ
    (`other_header`).

    Raises AdapterError for what is no adapter.
    """
    import torch

    from fade.adapters.lora import read_adapter

    (header, left), (other, right) = read_adapter(a), read_adapter(b)
    same = left.keys() == right.keys() and all(
        torch.equal(value, right[name]) for name, value in left.items()
    )
    return same, other_header(header, other) if same else ""


def control(again: Lineage, changed: Lineage, *, same_weights: bool) -> Verdict:
    """Hold a control run, of another training seed, against the re-run of the same machine, as if it were of
    the same seed.

    A comparison that cannot tell the two apart is worth nothing. Whatever the control declares of itself, in
    its record or in its adapter's header, is therefore left out: it must be found out by its weights."""
    outputs = dict(again.content["outputs"])
    if not same_weights:
        outputs["adapter_sha256"] = changed.content["outputs"]["adapter_sha256"]
    kept = ("params", "seeds", "inputs", "checks", "data", "neighbourhood")
    return judge(
        again, Lineage({**changed.content, **{key: again.content[key] for key in kept}, "outputs": outputs})
    )


def stages(record: Lineage, again: Lineage | None) -> list[dict[str, Any]]:
    """One row a stage for people: what was recorded, what came out again, and whether they are the same
    (None: not run)."""
    differing = compare(record, again) if again else []
    rows = []
    for stage, paths in STAGES.items():
        found = [one for one in differing if one.path.startswith(paths)]
        same = None if again is None else not found
        rows.append(
            {
                "stage": stage,
                "recorded": _said(record, stage),
                "again": _said(again, stage) if again else "",
                "same": same,
            }
        )
    return rows


def _said(record: Lineage, stage: str) -> str:
    content = record.content
    match stage:
        case "code":
            return str(content["code"]["commit"] or "no commit known")
        case "data":
            return str(content["data"]["md5"])
        case "base" | "judge":
            return str(content[stage]["sha256"])
        case "inputs":
            return f"{len(content['inputs']['before'])} hashed before and after"
        case "checks":
            every = [one for some in (content.get("checks") or {}).values() for one in some]
            return f"{sum(one['success'] for one in every)} of {len(every)} hold"
        case "params":
            return str(content["params"]["sha256"])
        case "seeds":
            return ", ".join(f"{name} {seed}" for name, seed in content["seeds"].items())
        case "neighbourhood":
            return ", ".join(content["neighbourhood"]["neighbours"])
        case "train":
            return str(content["outputs"]["adapter_sha256"])
        case _:
            metrics = content["outputs"].get("metrics") or {}
            return ", ".join(f"{name} {value:.1f}" for name, value in metrics.items() if value is not None)


def told(verdict: Verdict) -> dict[str, Any]:
    """The verdict as JSON data."""
    return {**asdict(verdict), "said": str(verdict)}
