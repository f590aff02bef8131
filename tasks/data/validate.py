"""Validate (Great Expectations): rules on measured tables; JSON and a page; a critical failure stops.

A verdict is kept by content (`tasks.data.verdicts`). Great Expectations takes seconds to import, and is not
imported where a verdict is kept. """

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from fade.data.tables import concept_frame, count_frame, file_frame, mined_frame, picture_frame
from fade.config import ChecksConfig, DataConfig
from fade.errors import DataError
from fade.utils.files import make_folder, write_whole
from fade.reporting.page import render_checks
from tasks.launch.environment import configure_environment
from tasks.data.expectations import Rule, concept_rules, count_rules, file_rules, latent_rules, mined_rules, picture_rules
from tasks.data.verdicts import Verdict, VerdictStore, folder_sha256, verdict_key

if TYPE_CHECKING:
    import pandas as pd

ROWS_KEPT = 200  # of each failing expectation, in the JSON


@dataclass(frozen=True)
class Checks:
    """The verdict on one data set, and the page that shows it."""

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
    rules: Sequence[Rule]


def validate_data(
    data: DataConfig,
    checks: ChecksConfig,
    *,
    out: Path,
    root: Path = Path(),
    names: Sequence[str] | None = None,
    store: VerdictStore | None = None,
) -> Checks:
    """Check the manifest and every decoded picture of ``root/data.images``.

    Writes ``out/data.json`` and ``out/data.html``. names: a vocabulary that the concepts must come from.
    store: where the verdict on the same content is looked up and kept. Raises DataError when the manifest
    cannot be read, or a critical expectation fails: the message names the expectations and the rows. """
    folder = root / data.images
    rules = {
        "pictures": picture_rules(checks, names),
        "concepts": concept_rules(checks),
        "files": file_rules(),
    }

    def key() -> str | None:
        content = folder_sha256(folder)
        return content and verdict_key(
            rules,
            folder=str(data.images),
            content=content,
            checks=checks.model_dump(mode="json"),
            names=names,
        )

    before = key() if store else None
    verdict = store.get(before) if store and before else None
    if verdict is None:
        verdict = _measure_data(folder, str(data.images), rules)
        if store and before and before == key():  # files changed meanwhile: it is of neither state
            store.put(before, verdict)
    return _conclude("data", "Data checks", verdict, out)


def _measure_data(folder: Path, shown: str, rules: Mapping[str, Sequence[Rule]]) -> Verdict:
    """Measure every picture, run the rules. ``shown``: the folder as the page names it. Raises DataError."""
    pictures = picture_frame(folder)
    concepts = concept_frame(pictures)
    files = file_frame(folder, pictures["path"])
    batches = {
        "pictures": ValidationTable(pictures, "path", rules["pictures"]),
        "concepts": ValidationTable(concepts, "concept", rules["concepts"]),
        "files": ValidationTable(files, "path", rules["files"]),
    }
    facts = {
        "Folder": shown, "Pictures": len(pictures), "Concepts": len(concepts), "Families": pictures["family"].nunique(),
        "Styles": pictures["style"].nunique(), "Splits": ", ".join(f"{k} "
                                                                   f"{v}" for k, v in pictures["split"].value_counts().items()),
        "Licences": ", ".join(f"{k} {v}" for k, v in pictures["licence"].value_counts().items()),
    }  # fmt: skip
    return Verdict(run_rules(batches), facts)


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
    `validate_data`. Raises DataError when a critical expectation fails. """
    if len(pictures) != len(concepts):
        raise DataError(
            f"{len(pictures)} pictures for {len(concepts)} names.",
            stage="validate mined",
            action="mine again.",
        )
    rules = {"mined": mined_rules(checks), "counts": count_rules(checks), "latents": latent_rules()}
    given: dict[str, Any] = {
        "concepts": list(concepts),
        "counts": dict(counts),
        "confidences": dict(confidences),
        "finite": bool(finite),
    }
    content = {
        "sha256": hashlib.sha256(pictures.tobytes()).hexdigest(),
        "shape": pictures.shape,
        "dtype": pictures.dtype.str,
    }
    key = verdict_key(rules, pictures=content, checks=checks.model_dump(mode="json"), **given)
    verdict = store.get(key) if store else None
    if verdict is None:
        verdict = _measure_mined(pictures, rules, **given)
        if store:
            store.put(key, verdict)
    return _conclude("mined", "Checks of the mined pictures", verdict, out)


def _measure_mined(
    pictures: np.ndarray,
    rules: Mapping[str, Sequence[Rule]],
    *,
    concepts: Sequence[str],
    counts: dict[str, int],
    confidences: dict[str, float],
    finite: bool,
) -> Verdict:
    import pandas as pd

    batches = {
        "mined": ValidationTable(mined_frame(pictures, concepts), "picture", rules["mined"]),
        "counts": ValidationTable(count_frame(concepts, counts, confidences), "concept", rules["counts"]),
        "latents": ValidationTable(
            pd.DataFrame({"what": ["mined latents"], "finite": [finite]}), "what", rules["latents"]
        ),
    }
    shape = f"{pictures.shape[2]} x {pictures.shape[1]}" if pictures.ndim == 4 else "none"
    return Verdict(
        run_rules(batches), {"Pictures": len(pictures), "Concepts": len(set(concepts)), "Size": shape}
    )


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
        expected = [kind(**rule.args, severity=rule.severity, meta={"rule": rule.name}) for kind, rule in kinds]
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expected))
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


def _conclude(stem: str, title: str, verdict: Verdict, out: Path) -> Checks:
    """Write the JSON and the page. Raises DataError when a critical expectation failed."""
    results, facts = verdict.results, verdict.facts
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
    rows = [r["row"] + (f" ({r['value']})" if r["value"] is not None else "") for r in result["rows"][:limit]]
    more = result["unexpected"] - len(rows)
    where = (
        f" for {', '.join(rows)}{f' and {more} more' if more > 0 else ''}"
        if rows
        else f": {result['error'] or result['observed']}"
    )
    return f"{result['name']} ({result['title']}) fails{where}"


validate_data_task = task(name="validate", cache_policy=NO_CACHE)(validate_data)
