"""Validate (Great Expectations): run the rules on measured frames, keep JSON and a page, stop on a critical
failure.

A run has this done by another process (`tasks.checked`), so Prefect is not imported here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fade.data.tables import concept_frame, count_frame, file_frame, mined_frame, picture_frame
from fade.config import ChecksConfig, DataConfig
from fade.errors import DataError
from fade.utils.files import make_folder, write_whole
from fade.reporting.checks_page import render_checks
from tasks.aside import unpacked
from tasks.launch.environment import configure_environment
from tasks.data.expectations import (
    Rule,
    concept_rules,
    count_rules,
    file_rules,
    latent_rules,
    mined_rules,
    picture_rules,
)

if TYPE_CHECKING:
    import pandas as pd

ROWS_KEPT = 200  # of each failing expectation, in the JSON


@dataclass(frozen=True)
class Checks:
    """The verdict on one frame set."""

    success: bool
    """Every expectation met."""
    critical: bool
    """A critical one failed."""
    results: list[dict[str, Any]]
    """name, title, type, severity, success, observed, rows [{row, value}], unexpected (count), error; plain
    JSON."""
    page: Path
    """Self-contained HTML."""


@dataclass(frozen=True)
class ValidationTable:
    """A frame, the column that names its rows, and its rules."""

    frame: pd.DataFrame
    index: str
    rules: list[Rule]


@dataclass(frozen=True)
class Looked:
    """What the rules said of a data set, and what is told about it beside."""

    results: list[dict[str, Any]]
    facts: dict[str, Any]


def validate_data(
    data: DataConfig,
    checks: ChecksConfig,
    *,
    out: Path,
    root: Path = Path(),
    names: Sequence[str] | None = None,
) -> Checks:
    """Check the manifest and every decoded picture of ``root/data.images``; writes ``out/data.json`` and
    ``out/data.html``.

    names: a vocabulary that the concepts must come from. Raises DataError when the manifest cannot be read,
    or a critical expectation fails: the message names the expectations and the rows."""
    asked = (data, checks, root, names if names is None else tuple(names))
    looked = _ahead.results_for(asked) or look(*asked)
    return _judge("data", "Data checks", looked, out)


def look(data: DataConfig, checks: ChecksConfig, root: Path, names: Sequence[str] | None) -> Looked:
    """Measure every picture and run the rules; no verdict. Raises DataError when the manifest cannot be
    read."""
    folder = root / data.images
    pictures = picture_frame(folder)
    concepts = concept_frame(pictures)
    files = file_frame(folder, pictures["path"])
    batches = {
        "pictures": ValidationTable(pictures, "path", picture_rules(checks, names)),
        "concepts": ValidationTable(concepts, "concept", concept_rules(checks)),
        "files": ValidationTable(files, "path", file_rules()),
    }
    facts = {
        "Folder": str(data.images), "Pictures": len(pictures), "Concepts": len(concepts), "Families": pictures["family"].nunique(),
        "Styles": pictures["style"].nunique(), "Splits": ", ".join(f"{k} {v}" for k, v in pictures["split"].value_counts().items()),
        "Licences": ", ".join(f"{k} {v}" for k, v in pictures["licence"].value_counts().items()),
    }  # fmt: skip
    return Looked(run_rules(batches), facts)


class Ahead:
    """What was looked at before it was asked for: two seconds that a run would wait, while this process had
    nothing to do.

    It holds for exactly the same question and only while no file of the data set was touched since, by the
    evidence that DVC itself goes by: sizes, times and inodes."""

    def __init__(self) -> None:
        self._asked: object = None
        self._seen: object = None
        self._looked: Looked | None = None

    def look(self, data: DataConfig, checks: ChecksConfig, root: Path, names: Sequence[str] | None) -> None:
        """Look, for `results_for`. Raises what `look` raises."""
        seen = _touched(root / data.images)
        looked = look(data, checks, root, names)
        self._asked, self._seen, self._looked = (data, checks, root, names), seen, looked

    def results_for(
        self, asked: tuple[DataConfig, ChecksConfig, Path, Sequence[str] | None]
    ) -> Looked | None:
        """What was seen, or None where it no longer holds."""
        data, _, root, _ = asked
        return (
            self._looked
            if self._looked and self._asked == asked and self._seen == _touched(root / data.images)
            else None
        )


_ahead = Ahead()


def _touched(folder: Path) -> dict[str, tuple[int, ...]]:
    """Size, times and inode of every file below ``folder``."""
    found = {str(path): path.stat() for path in folder.rglob("*") if path.is_file()}
    return {
        name: (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino) for name, stat in found.items()
    }


def validate_mined(
    pictures: np.ndarray, concepts: Sequence[str], counts: Mapping[str, int], confidences: Mapping[str, float], finite: bool,
    checks: ChecksConfig, out: Path,
) -> Checks:  # fmt: skip
    """Check generated pictures, uint8 (N, H, W, 3), of ``concepts`` (N names); writes ``out/mined.json`` and
    ``out/mined.html``.

    counts: pictures asked for by concept; confidences: the judge's mean probability of each concept's own
    name; finite: no latent is NaN or infinite. Raises DataError when a critical expectation fails."""
    import pandas as pd

    if len(pictures) != len(concepts):
        raise DataError(
            f"{len(pictures)} pictures for {len(concepts)} names.",
            stage="validate mined",
            action="mine again.",
        )
    batches = {
        "mined": ValidationTable(mined_frame(pictures, concepts), "picture", mined_rules(checks)),
        "counts": ValidationTable(
            count_frame(concepts, dict(counts), dict(confidences)), "concept", count_rules(checks)
        ),
        "latents": ValidationTable(
            pd.DataFrame({"what": ["mined latents"], "finite": [bool(finite)]}), "what", latent_rules()
        ),
    }
    shape = f"{pictures.shape[2]} x {pictures.shape[1]}" if pictures.ndim == 4 else "none"
    facts = {"Pictures": len(pictures), "Concepts": len(set(concepts)), "Size": shape}
    return _judge("mined", "Checks of the mined pictures", Looked(run_rules(batches), facts), out)


def look_ahead(data: dict[str, Any], checks: dict[str, Any], root: str, names: list[str] | None) -> None:
    """For another process to ask for: look at the data now, so that `data_as_json` has only to see that
    nothing was touched since."""
    _ahead.look(
        DataConfig(**data), ChecksConfig(**checks), Path(root), None if names is None else tuple(names)
    )


def data_as_json(
    data: dict[str, Any], checks: dict[str, Any], out: str, root: str, names: list[str] | None
) -> dict[str, Any]:
    """`validate_data` for another process to ask for: JSON in, JSON out."""
    return _json(
        validate_data(DataConfig(**data), ChecksConfig(**checks), out=Path(out), root=Path(root), names=names)
    )


def mined_as_json(pictures: dict[str, Any], checks: dict[str, Any], out: str, **given: Any) -> dict[str, Any]:
    """`validate_mined` for another process to ask for; ``pictures``: see `tasks.aside.packed`."""
    return _json(validate_mined(unpacked(pictures), **given, checks=ChecksConfig(**checks), out=Path(out)))


def _json(checks: Checks) -> dict[str, Any]:
    return {
        "success": checks.success,
        "critical": checks.critical,
        "results": checks.results,
        "page": str(checks.page),
    }


def run_rules(batches: Mapping[str, ValidationTable]) -> list[dict[str, Any]]:
    """Great Expectations on each frame; one plain result a rule, in the rules' order."""
    configure_environment()
    import great_expectations as gx
    import great_expectations.expectations as expectations

    # It announces a docs site that is never built.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    results = []
    for name, batch in batches.items():
        source = (
            context.data_sources.add_pandas(name)
            .add_dataframe_asset(name)
            .add_batch_definition_whole_dataframe(name)
        )
        # All at once: each that is added to a suite of the context has the whole suite written again.
        kinds = [(getattr(expectations, f"Expect{r.kind}"), r) for r in batch.rules]
        asked = [kind(**rule.args, severity=rule.severity, meta={"rule": rule.name}) for kind, rule in kinds]
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=asked))
        definition = context.validation_definitions.add(
            gx.ValidationDefinition(name=name, data=source, suite=suite)
        )
        shown = {"result_format": "COMPLETE", "unexpected_index_column_names": [batch.index]}
        checkpoint = context.checkpoints.add(
            gx.Checkpoint(name=name, validation_definitions=[definition], result_format=shown)
        )
        run = checkpoint.run(batch_parameters={"dataframe": batch.frame})
        found = [r for outcome in run.run_results.values() for r in outcome.to_json_dict()["results"]]
        by_rule = {r["expectation_config"]["meta"]["rule"]: r for r in found}
        results += [_plain(rule, by_rule[rule.name], batch) for rule in batch.rules]
    return results


def _plain(rule: Rule, result: Mapping[str, Any], batch: ValidationTable) -> dict[str, Any]:
    """Great Expectations' result of one rule as our own: what the page, the JSON and the message need."""
    detail = result.get("result", {})
    column = rule.value or rule.args.get("column") or rule.args.get("column_B", "")
    shown = (
        dict(zip(batch.frame[batch.index], batch.frame[column], strict=True))
        if column in batch.frame.columns
        else {}
    )
    names = [str(entry[batch.index]) for entry in detail.get("unexpected_index_list") or []]
    rows = [
        {"row": name, "value": None if (v := shown.get(name)) is None or column == batch.index else str(v)}
        for name in names
    ]
    observed = detail.get("observed_value")
    if observed is None:
        bad, all_ = detail.get("unexpected_count", 0), detail.get("element_count", 0)
        observed = f"{bad} of {all_} fail" if bad else f"{all_} of {all_} meet it"
    elif isinstance(observed, list):
        observed = ", ".join(map(str, observed))
    return {
        "name": rule.name, "title": rule.title, "type": result["expectation_config"]["type"], "severity": rule.severity,
        "success": bool(result["success"]), "observed": str(observed), "rows": rows[:ROWS_KEPT], "unexpected": len(rows),
        "error": _error(result.get("exception_info") or {}),
    }  # fmt: skip


def _error(info: Mapping[str, Any]) -> str | None:
    """The text of an expectation that could not be computed; Great Expectations nests it by metric, or
    not."""
    nested = [info] if "exception_message" in info else list(info.values())
    texts = [str(i["exception_message"]) for i in nested if i.get("exception_message")]
    return "; ".join(dict.fromkeys(texts)) or None


def _judge(stem: str, title: str, looked: Looked, out: Path) -> Checks:
    results, facts = looked.results, looked.facts
    failed = [r for r in results if not r["success"]]
    critical = [r for r in failed if r["severity"] == "critical"]
    page = out / f"{stem}.html"
    document = {
        "title": title,
        "success": not failed,
        "critical": bool(critical),
        "facts": facts,
        "results": results,
    }
    make_folder(out)
    write_whole(
        out / f"{stem}.json", json.dumps(document, indent=1, allow_nan=False, default=str), stage="validate"
    )
    write_whole(page, render_checks(title, results, facts), stage="validate")
    if critical:
        stage = "validate" if stem == "data" else f"validate {stem}"
        action = f"mend the data (see {page}); nothing was trained."
        raise DataError("; ".join(_sentence(r) for r in critical) + ".", stage=stage, action=action)
    return Checks(not failed, False, results, page)


def _sentence(result: Mapping[str, Any], limit: int = 5) -> str:
    """``decodes (every picture ...) fails for noto/panda.png (truncated) and 3 more``."""
    told = [r["row"] + (f" ({r['value']})" if r["value"] is not None else "") for r in result["rows"][:limit]]
    more = result["unexpected"] - len(told)
    where = (
        f" for {', '.join(told)}{f' and {more} more' if more > 0 else ''}"
        if told
        else f": {result['error'] or result['observed']}"
    )
    return f"{result['name']} ({result['title']}) fails{where}"
