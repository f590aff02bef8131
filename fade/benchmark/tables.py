"""The summary as tables, and the tables as Markdown. The numbers are the summary's; here they only get their
digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fade.evaluation.metrics import metric as registered

NONE = "-"
SURE = 0.05
"""Holm's p below which a difference is marked."""


@dataclass(frozen=True)
class Table:
    """Text cells; the first column is a name, the others are numbers."""

    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = [f"| {' | '.join(self.head)} |", "|".join(["", "---", *["--:"] * (len(self.head) - 1), ""])]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join([f"### {self.title}", "", self.note, "", *lines, ""])


def number(value: float | None, digits: int = 1) -> str:
    """``97.25`` -> ``97.2``; a dash for None."""
    return NONE if value is None else f"{value:.{digits}f}"


def unit(metric: Mapping[str, Any]) -> str:
    """``erased, %``: the title with its unit."""
    return f"{metric['title']}, {metric['unit']}" if metric["unit"] in ("%", "SSIM") else str(metric["title"])


def main_table(summary: Mapping[str, Any]) -> Table:
    """One row a condition: mean and standard deviation over its cells of each main metric."""
    metrics = [m for m in summary["metrics"] if m["main"]]
    done, of = summary["cells"]["done"], summary["cells"]["of"]
    note = (
        f"Mean ± standard deviation over targets and seeds; {done} of {of} cells. An asterisk: differs "
        f"from {summary['reference']} "
    )
    note += f"(Holm's p < {SURE:g}). Bold: on the frontier of erasure against retention."
    rows = []
    for label, condition in summary["arms"].items():
        name = f"**{label}**" if label in summary["frontier"]["efficient"] else label
        cells = [
            _mean(condition["spread"].get(m["name"]), m["digits"]) + _star(summary, m["name"], label)
            for m in metrics
        ]
        rows.append([name, *cells, number(_get(condition, "train_seconds", "mean"))])
    return Table("Methods", note, ["method", *map(unit, metrics), registered("train_seconds").title], rows)


def metric_tables(summary: Mapping[str, Any]) -> list[Table]:
    """One table a metric: spread, interval, and the difference to the reference."""
    return [_metric_table(summary, metric) for metric in summary["metrics"]]


def _metric_table(summary: Mapping[str, Any], metric: Mapping[str, Any]) -> Table:
    against, digits = summary["against_reference"].get(metric["name"], {}), metric["digits"]
    rows = []
    for label, condition in summary["arms"].items():
        if (s := condition["spread"].get(metric["name"])) is None:
            continue
        c = against.get(label, {})
        pair = [
            number(c.get("difference"), digits),
            interval(c, digits),
            number(c.get("p"), 4),
            number(c.get("p_holm"), 4),
        ]
        spreads = [number(s[key], digits) for key in ("mean", "sd_targets", "sd_seeds")]
        rows.append([label, *spreads, interval(s, digits), str(s["n"]), *pair])
    note = (
        f"{metric['meaning']}; {metric['better']} is better. The difference is {summary['reference']} "
        "minus the row."
    )
    head = [
        "method",
        "mean",
        "sd of targets",
        "sd of seeds",
        "95 % interval",
        "cells",
        "difference",
        "95 % interval",
        "p",
        "p, Holm",
    ]
    return Table(unit(metric), note, head, rows)


def target_table(summary: Mapping[str, Any], name: str) -> Table:
    """One metric by condition and target, means over seeds."""
    metric = next(m for m in summary["metrics"] if m["name"] == name)
    targets, values = summary["plan"]["targets"], summary["per_target"][name]
    rows = [
        [label, *(number(found.get(t), metric["digits"]) for t in targets)] for label, found in values.items()
    ]
    return Table(f"{unit(metric)}, by target", "Means over seeds.", ["method", *targets], rows)


def significance(summary: Mapping[str, Any]) -> Table:
    """Holm's p of each condition against the reference, by metric, with the sign of the difference."""
    metrics, reference = summary["metrics"], summary["reference"]
    rows = []
    for label in summary["arms"]:
        if label != reference:
            rows.append(
                [label, *(_p(summary["against_reference"].get(m["name"], {}).get(label), m) for m in metrics)]
            )
    note = (
        f"{reference} against each: better, worse or the same, with Holm's p over the methods (paired "
        "bootstrap over targets and seeds)."
    )
    return Table("Significance", note, ["method", *(str(m["title"]) for m in metrics)], rows)


def cost_table(summary: Mapping[str, Any]) -> Table:
    """What a cell costs, means."""
    costs = summary["costs"]
    rows = [
        [label, *(number(_get(condition, m["name"], "mean"), m["digits"]) for m in costs)]
        for label, condition in summary["arms"].items()
    ]
    devices = summary["devices"]
    other = sum(devices.values()) - devices.get(summary["timed_on"], 0)
    alone = (
        f" Seconds and memory: of the {devices[summary['timed_on']]} cells made on {summary['timed_on']} "
        "alone."
        if other
        else ""
    )
    return Table("Cost", f"Means a cell.{alone}", ["method", *(str(m["title"]) for m in costs)], rows)


def settings_table(summary: Mapping[str, Any]) -> Table:
    """What tuning chose for each condition."""
    chosen = summary["tuning"]["methods"]
    rows = [
        [
            label,
            f"`{' '.join(chosen[label]['overrides'])}`",
            str(len(chosen[label]["trials"])),
            number(chosen[label]["score"]),
        ]
        if label in chosen
        else [label, "not tuned: params.yaml and its own recipe", "0", NONE]
        for label in summary["arms"]
    ]
    note = f"Chosen on {', '.join(summary['tuning']['targets'])}, none of which is reported."
    return Table("Settings", note, ["method", "setting", "tries", "score"], rows)


def markdown(summary: Mapping[str, Any], figure: str) -> str:
    """``benchmark.md``. figure: the frontier's file name."""
    archived = (
        f" Cells of the archived record of commit {summary['archive']}." if summary.get("archive") else ""
    )
    origin = f"`{summary['command']}`, commit {summary['commit']}, data md5 {summary['data_md5']}.{archived}"
    head = ["# Benchmark", "", origin, ""]
    missing = [
        f"{m['arm']}, {m['target']}, seed {m['seed']}: {m['why']}" for m in summary["cells"]["missing"]
    ]
    gaps = [f"Missing cells ({len(missing)}):", "", *(f"- {line}" for line in missing), ""] if missing else []
    if not summary["arms"]:
        return "\n".join([*head, *gaps])
    details = [
        *metric_tables(summary),
        *(target_table(summary, m["name"]) for m in summary["metrics"] if m["main"]),
    ]
    parts = [
        main_table(summary),
        significance(summary),
        cost_table(summary),
        settings_table(summary),
        *details,
    ]
    first, *rest = (table.markdown() for table in parts)
    return "\n".join([*head, first, f"![erasure against retention]({figure})", "", *rest, *gaps])


def interval(found: Mapping[str, Any], digits: int) -> str:
    """``[90.1, 95.2]``; a dash where it was not computed."""
    if found.get("lo") is None:
        return NONE
    return f"[{number(found['lo'], digits)}, {number(found['hi'], digits)}]"


def _mean(found: Mapping[str, Any] | None, digits: int) -> str:
    if found is None:
        return NONE
    return number(found["mean"], digits) + (
        f" ± {number(found['sd'], digits)}" if found["sd"] is not None else ""
    )


def _star(summary: Mapping[str, Any], metric: str, label: str) -> str:
    p = summary["against_reference"].get(metric, {}).get(label, {}).get("p_holm")
    return " *" if p is not None and p < SURE else ""


def _p(found: Mapping[str, Any] | None, metric: Mapping[str, Any]) -> str:
    if found is None or found["p_holm"] is None:
        return NONE
    gain = found["difference"] if metric["better"] == "higher" else -found["difference"]
    word = "same" if found["p_holm"] >= SURE else "better" if gain > 0 else "worse"
    return f"{word}, {found['p_holm']:.3f}"


def _get(condition: Mapping[str, Any], metric: str, key: str) -> float | None:
    found = condition["spread"].get(metric)
    return None if found is None else found[key]
