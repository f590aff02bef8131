"""Verdict of an audit: a version's record compared with the record of the same run made again; and the
entries of the log of audits. Ours.

The stages of a run are compared in their order. Everything up to training is an input, and must be the same.
The adapter's bytes and the last digits of the metrics may differ on another device, with another number of
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
"""Verdicts without a re-run."""
VERDICTS = (IDENTICAL, EQUIVALENT, DIFFERENT, MISSING, HOLDS, BROKEN)
GOOD = frozenset({IDENTICAL, EQUIVALENT, HOLDS})
TRAIN, EVALUATE = "train", "evaluate"
STAGES = {
    "code": ("code.version", "code.commit"),
    "data": ("data.",),
    "base": ("base.", "self_tests.base", "self_tests.clip"),
    "judge": ("judge.", "self_tests.judge", "self_tests.second_judge"),
    "inputs": ("inputs.",),
    "checks": ("checks.",),
    "params": ("params.values",),
    "seeds": ("seeds.",),
    "neighbourhood": tuple(f"neighbourhood.{key}" for key in ("target", "neighbours", "heldout", "left_out")),
    TRAIN: ("outputs.adapter_sha256",),
    EVALUATE: ("outputs.metrics", "outputs.base_metrics"),
}
"""Stage -> where in a record its outcome stands, as beginnings of dotted paths, in the order of the run."""
_ENVIRONMENT = "python platform machine libraries torch_threads device precision world_size"
REASONS = tuple(f"environment.{key}" for key in _ENVIRONMENT.split())
"""What may change the last bits. The lock of all packages is recorded, and is no reason: most packages touch
no number."""
TOLERANCE = 2.0
"""In points; of records from before schema 3, which hold none."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of a comparison."""

    name: str
    """One of VERDICTS."""
    stage: str = ""
    """The first stage that differs, or what is missing."""
    differences: Sequence[Difference] = ()
    """Every recorded value that the re-run did not repeat, in the order of the stages."""
    reasons: Sequence[Difference] = ()
    """Of the environments."""
    note: str = ""

    @property
    def good(self) -> bool:
        return self.name in GOOD

    def to_json(self) -> dict[str, Any]:
        """As ``audit.json`` holds it."""
        return {**asdict(self), "said": str(self)}

    def __str__(self) -> str:
        first = next(iter(self.differences), None)
        reasons = ", ".join(reason.path.removeprefix("environment.") for reason in self.reasons)
        more = {
            DIFFERENT: f", from stage {self.stage} on: {first}",
            EQUIVALENT: f": {first}; {reasons} differ",
            IDENTICAL: ": every stage came out the same",
        }
        return self.name + more.get(self.name, f": {self.stage}" if self.stage else "")


@dataclass(frozen=True, kw_only=True)
class Audit(LogEntry):
    """One entry of a model's log of audits."""

    version: str
    verdict: str
    stage: str = ""
    control: str = ""
    """The verdict on the control run; empty when there was none."""
    adapter_sha256: str = ""
    lineage_sha256: str = ""
    report_sha256: str = ""
    """Of ``audit.json``."""
    run_id: str = ""
    """MLflow's, whose artifacts the report is."""

    KIND, STAGE, ERROR = "audit", STAGE, AuditError
    CHOICES = {"verdict": VERDICTS}  # noqa: RUF012 (a class variable of the base)


def compare_lineages(record: Lineage, repeated: Lineage, *, header_only: str = "") -> Verdict:
    """Compare a closed record with that of the same run made again. header_only: why the adapters' bytes
    differ although every weight is the same (`other_header`); they count as the same then."""
    everything = compare(record, repeated)
    reasons = [one for one in everything if one.path.startswith(REASONS)]
    by_stage = {
        stage: [one for one in everything if one.path.startswith(paths)] for stage, paths in STAGES.items()
    }
    if header_only:
        by_stage[TRAIN] = []
    differences = [one for some in by_stage.values() for one in some]
    first = next((stage for stage, some in by_stage.items() if some), "")
    if not first:
        return Verdict(IDENTICAL, reasons=reasons, note=header_only)
    close = all(_within(one, tolerance(record)) for one in by_stage[EVALUATE])
    if first in (TRAIN, EVALUATE) and reasons and close:
        return Verdict(EQUIVALENT, first, differences, reasons)
    return Verdict(DIFFERENT, first, differences, reasons)


def compare_build(
    record: Lineage, sha256: str, now: Mapping[str, Any], *, computed: bool, note: str
) -> Verdict:
    """Compare the recorded bytes of a release with those, ``sha256``, of the same release built again.

    now: sections ``code`` and ``environment`` of the second build. computed: whether numbers were computed
    for it, whose last bits the environment and other code may change (a sum copies its parts' weights): then
    other bytes under other circumstances are no finding about the release."""
    recorded = str(record.content["outputs"]["adapter_sha256"])
    if sha256 == recorded:
        return Verdict(IDENTICAL, note=note)
    differences = [Difference("outputs.adapter_sha256", recorded, sha256)]
    before = Lineage({section: record.content[section] for section in now})
    paths = (*REASONS, "code.commit", "code.version") if computed else ("code.version",)
    reasons = [one for one in compare(before, Lineage(now)) if one.path.startswith(paths)]
    if not reasons:
        return Verdict(DIFFERENT, TRAIN, differences)
    why = f"the release has other bytes here, where {', '.join(map(str, reasons))}"
    return Verdict(MISSING, why, differences, reasons)


def tolerance(record: Lineage) -> float:
    """Points by which a metric may differ, as the record has it."""
    return float(record.content.get("audit", {}).get("tolerance", TOLERANCE))


def _within(one: Difference, points: float) -> bool:
    return isinstance(one.a, int | float) and isinstance(one.b, int | float) and abs(one.a - one.b) <= points


def other_header(a: Mapping[str, str], b: Mapping[str, str]) -> str:
    """Why two adapters of the same weights, with the headers a and b, have different bytes: one was trained
    by an earlier run, at another commit of the same code. Empty for any other difference."""
    differing = sorted(key for key in {*a, *b} if a.get(key) != b.get(key))
    # neither of the two is in the key of a training
    if not differing or not set(differing) <= {"commit", "params_sha256"}:
        return ""
    named = ", ".join(f"{key} {a.get(key, '')[:12]}" for key in differing)
    return f"the same weights, trained by an earlier run of the same job, whose {named} the header names"


def same_weights(a: Path, b: Path) -> tuple[bool, str]:
    """(whether every weight of two adapter files is the same, and if so why their bytes differ:
    `other_header`). Raises AdapterError for a file that is no adapter."""
    import torch

    from fade.adapters.adapter_file import read_adapter

    (header, left), (other, right) = read_adapter(a), read_adapter(b)
    same = left.keys() == right.keys() and all(
        torch.equal(value, right[name]) for name, value in left.items()
    )
    return same, other_header(header, other) if same else ""


def compare_control(repeated: Lineage, changed: Lineage, *, same_weights: bool) -> Verdict:
    """Compare a control run, of another training seed, with the re-run on the same machine.

    A comparison that cannot tell the two apart is worth nothing. Whatever the control declares of itself, in
    its record or in its adapter's header, is left out: its weights alone must give it away."""
    outputs = dict(repeated.content["outputs"])
    if not same_weights:
        outputs["adapter_sha256"] = changed.content["outputs"]["adapter_sha256"]
    declared = {
        key: repeated.content[key] for key in ("params", "seeds", "inputs", "checks", "data", "neighbourhood")
    }
    return compare_lineages(repeated, Lineage({**changed.content, **declared, "outputs": outputs}))


def stages(record: Lineage, repeated: Lineage | None) -> list[dict[str, Any]]:
    """One row a stage for people: ``recorded``, ``again`` (of the re-run), and whether they are the ``same``
    (None without a re-run)."""
    differing = [one.path for one in compare(record, repeated)] if repeated else []
    before, after = _outcomes(record), _outcomes(repeated) if repeated else dict.fromkeys(STAGES, "")
    rows = []
    for stage, paths in STAGES.items():
        same = not any(path.startswith(paths) for path in differing) if repeated else None
        rows.append({"stage": stage, "recorded": before[stage], "again": after[stage], "same": same})
    return rows


def _outcomes(record: Lineage) -> dict[str, str]:
    """Stage -> its outcome, for people."""
    content = record.content
    outputs, neighbours = content["outputs"], content["neighbourhood"]["neighbours"]
    checks = [one for some in (content.get("checks") or {}).values() for one in some]
    metrics = {key: value for key, value in (outputs.get("metrics") or {}).items() if value is not None}
    return {
        "code": str(content["code"]["commit"] or "no commit known"),
        "data": str(content["data"]["md5"]),
        "base": str(content["base"]["sha256"]),
        "judge": str(content["judge"]["sha256"]),
        "inputs": f"{len(content['inputs']['before'])} hashed before and after",
        "checks": f"{sum(one['success'] for one in checks)} of {len(checks)} hold",
        "params": str(content["params"]["sha256"]),
        "seeds": ", ".join(f"{name} {seed}" for name, seed in content["seeds"].items()),
        "neighbourhood": ", ".join(neighbours),
        TRAIN: str(outputs["adapter_sha256"]),
        EVALUATE: ", ".join(f"{name} {value:.1f}" for name, value in metrics.items()),
    }
