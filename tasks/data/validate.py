"""Validate (Great Expectations): rules on measured tables; JSON and a page; a critical failure stops.

A verdict is kept by content (`tasks.data.verdicts`). Great Expectations takes seconds to import, and is not
imported where a verdict is kept."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from fade.config import ChecksConfig, DataConfig
from fade.data import tables
from fade.errors import DataError
from fade.reporting.page import render_checks
from fade.utils.files import make_folder, write_whole
from fade.utils.text import visible
from tasks.data import expectations
from tasks.data.expectations import Rule
from tasks.data.verdicts import Verdict, VerdictStore, folder_sha256, stored_verdict, verdict_key
from tasks.launch.environment import configure_environment

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 200  # of each failing expectation, in the JSON


@dataclass(frozen=True)
class Checks:
    """The verdict on one data set, of which no critical expectation failed, and the page that shows it."""

    success: bool
    """Every expectation met."""
    results: list[dict[str, Any]]
    """name, title, type, severity, success, observed, rows [{row, value}], unexpected (count), error."""
    page: Path
    """Self-contained HTML."""


@dataclass(frozen=True)
class ValidationTable:
    """A frame, the column that names its rows, and its rules."""

    frame: pd.DataFrame
    index: str
    rules: Sequence[Rule]


def validate_data(
    data: DataConfig,
    checks: ChecksConfig,
    *,
    out: Path,
    root: Path = Path(),
    names: Sequence[str] | None = None,
    store: VerdictStore | None = None,
    measure: Callable[[Path], pd.DataFrame] = tables.picture_frame,
) -> Checks:
    """Check the manifest and every decoded picture of ``root/data.images``.

    Writes ``out/data.json`` and ``out/data.html``. names: a vocabulary that the concepts must come from.
    store: where the verdict on the same content is looked up and kept. measure: the pictures of a folder, as
    `fade.data.tables.picture_frame` has them. Raises DataError when the manifest cannot be read, or a
    critical expectation fails: the message names the expectations and the rows."""
    folder, shown = root / data.images, str(data.images)
    rules = {
        "pictures": expectations.picture_rules(checks, names),
        "concepts": expectations.concept_rules(checks),
        "files": expectations.file_rules(),
    }

    def key() -> str | None:
        content = folder_sha256(folder)
        return content and verdict_key(rules, folder=shown, content=content)

    def judge() -> Verdict:
        pictures = measure(folder)
        concepts = tables.concept_frame(pictures)
        files = tables.file_frame(folder, pictures["path"])
        facts = {
            "Folder": shown,
            "Pictures": len(pictures),
            "Concepts": len(concepts),
            "Families": pictures["family"].nunique(),
            "Styles": pictures["style"].nunique(),
            "Splits": _counts(pictures["split"]),
            "Licences": _counts(pictures["licence"]),
        }
        batches = {
            "pictures": ValidationTable(pictures, "path", rules["pictures"]),
            "concepts": ValidationTable(concepts, "concept", rules["concepts"]),
            "files": ValidationTable(files, "path", rules["files"]),
        }
        return Verdict(run_rules(batches), facts)

    return _conclude("data", "Data checks", stored_verdict(store, key, judge), out)


def _counts(column: pd.Series[str]) -> str:
    return ", ".join(f"{value} {count}" for value, count in column.value_counts().items())


def validate_mined(
    pictures: np.ndarray,
    concepts: Sequence[str],
    counts: Mapping[str, int],
    confidences: Mapping[str, float],
    finite: bool,
    checks: ChecksConfig,
    out: Path,
    store: VerdictStore | None = None,
) -> Checks:
    """Check generated pictures, uint8 (N, H, W, 3), of ``concepts`` (N names).

    Writes ``out/mined.json`` and ``out/mined.html``. counts: pictures requested by concept; confidences: the
    judge's mean probability of each concept's own name; finite: no latent is NaN or infinite; store: as in
    `validate_data`. Raises DataError when a critical expectation fails."""
    if len(pictures) != len(concepts):
        what = f"{len(pictures)} pictures for {len(concepts)} names."
        raise DataError(what, stage="validate mined", action="mine again.")
    rules = {
        "mined": expectations.mined_rules(checks),
        "counts": expectations.count_rules(checks),
        "latents": expectations.latent_rules(),
    }
    given: dict[str, Any] = {"concepts": list(concepts), "counts": dict(counts)}
    given |= {"confidences": dict(confidences), "finite": bool(finite)}

    def key() -> str:
        sha256 = hashlib.sha256(pictures.tobytes()).hexdigest()
        content = {"sha256": sha256, "shape": pictures.shape, "dtype": pictures.dtype.str}
        return verdict_key(rules, pictures=content, **given)

    def measure() -> Verdict:
        import pandas as pd

        mined = tables.mined_frame(pictures, concepts)
        counted = tables.count_frame(concepts, counts, confidences)
        latents = pd.DataFrame({"what": ["mined latents"], "finite": [finite]})
        batches = {
            "mined": ValidationTable(mined, "picture", rules["mined"]),
            "counts": ValidationTable(counted, "concept", rules["counts"]),
            "latents": ValidationTable(latents, "what", rules["latents"]),
        }
        size = f"{pictures.shape[2]} x {pictures.shape[1]}" if pictures.ndim == 4 else "none"
        facts = {"Pictures": len(pictures), "Concepts": len(set(concepts)), "Size": size}
        return Verdict(run_rules(batches), facts)

    return _conclude("mined", "Checks of the mined pictures", stored_verdict(store, key, measure), out)


def run_rules(batches: Mapping[str, ValidationTable]) -> list[dict[str, Any]]:
    """Great Expectations on each frame; one plain result a rule, in the rules' order."""
    configure_environment()
    import great_expectations as gx
    import great_expectations.expectations as classes

    # It announces a docs site that is never built.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    results = []
    for name, batch in batches.items():
        asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
        definition = asset.add_batch_definition_whole_dataframe(name)
        kinds = [(getattr(classes, f"Expect{rule.kind}"), rule) for rule in batch.rules]
        expected = [
            kind(**rule.args, severity=rule.severity, meta={"rule": rule.name}) for kind, rule in kinds
        ]
        suite = gx.ExpectationSuite(name=name, expectations=expected)
        shown = {"result_format": "COMPLETE", "unexpected_index_column_names": [batch.index]}
        outcome = definition.get_batch({"dataframe": batch.frame}).validate(suite, result_format=shown)
        by_rule = {r["expectation_config"]["meta"]["rule"]: r for r in outcome.to_json_dict()["results"]}
        results += [_plain(rule, by_rule[rule.name], batch) for rule in batch.rules]
    return results


def _plain(rule: Rule, result: Mapping[str, Any], batch: ValidationTable) -> dict[str, Any]:
    """Great Expectations' result of one rule as our own: what the page, the JSON and the message need."""
    detail = result.get("result", {})
    frame, column = batch.frame, rule.value or rule.args.get("column") or rule.args.get("column_B", "")
    values = {}
    if column in frame.columns and column != batch.index:
        values = dict(zip(frame[batch.index], frame[column], strict=True))
    names = [str(entry[batch.index]) for entry in detail.get("unexpected_index_list") or []]
    rows = [{"row": name, "value": None if (v := values.get(name)) is None else str(v)} for name in names]
    observed = detail.get("observed_value")
    if observed is None:
        bad, total = detail.get("unexpected_count", 0), detail.get("element_count", 0)
        observed = f"{bad} of {total} fail" if bad else f"{total} of {total} meet it"
    elif isinstance(observed, list):
        observed = ", ".join(map(str, observed))
    return {
        "name": rule.name,
        "title": rule.title,
        "type": result["expectation_config"]["type"],
        "severity": rule.severity,
        "success": bool(result["success"]),
        "observed": str(observed),
        "rows": rows[:MAX_ROWS],
        "unexpected": len(rows),
        "error": _error(result.get("exception_info") or {}),
    }


def _error(info: Mapping[str, Any]) -> str | None:
    """Why an expectation could not be computed; Great Expectations nests it by metric, or not."""
    nested = [info] if "exception_message" in info else info.values()
    texts = [str(i["exception_message"]) for i in nested if i.get("exception_message")]
    return "; ".join(dict.fromkeys(texts)) or None


def _conclude(stem: str, title: str, verdict: Verdict, out: Path) -> Checks:
    """Write the JSON and the page. Raises DataError when a critical expectation failed."""
    failed = [r for r in verdict.results if not r["success"]]
    critical = [r for r in failed if r["severity"] == "critical"]
    page = out / f"{stem}.html"
    document = {"title": title, "success": not failed, "critical": bool(critical)}
    document |= {"facts": verdict.facts, "results": verdict.results}
    make_folder(out)
    body = json.dumps(document, indent=1, allow_nan=False, default=str)
    write_whole(out / f"{stem}.json", body, stage="validate")
    write_whole(page, render_checks(title, verdict.results, verdict.facts), stage="validate")
    if critical:
        stage = "validate" if stem == "data" else f"validate {stem}"
        action = f"mend the data (see {page}); nothing was trained."
        raise DataError(visible("; ".join(map(_sentence, critical))) + ".", stage=stage, action=action)
    return Checks(not failed, verdict.results, page)


def _sentence(result: Mapping[str, Any], limit: int = 5) -> str:
    """``decodes (every picture ...) fails for noto/panda.png (truncated) and 3 more``."""
    rows = [r["row"] + (f" ({r['value']})" if r["value"] is not None else "") for r in result["rows"][:limit]]
    more = result["unexpected"] - len(rows)
    where = f": {result['error'] or result['observed']}"
    if rows:
        where = f" for {', '.join(rows)}" + (f" and {more} more" if more > 0 else "")
    return f"{result['name']} ({result['title']}) fails{where}"


validate_data_task = task(name="validate", cache_policy=NO_CACHE)(validate_data)
