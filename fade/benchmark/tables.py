"""The summary as tables, and the tables as Markdown: numbers get their digits here, none is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fade.benchmark.tuning import edge_sentence, edges
from fade.evaluation.metrics import metric as registered
from fade.utils.text import markdown_table

NONE = "-"
SURE = 0.05
"""Holm's p below which a difference is marked."""


@dataclass(frozen=True)
class Table:
    """Text cells; the first column is a name, most others are numbers."""

    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = markdown_table(self.head, self.rows)
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
    done, total = summary["cells"]["done"], summary["cells"]["of"]
    note = (
        f"Mean ± standard deviation over targets and seeds; {done} of {total} cells. An asterisk: differs "
        f"from {summary['reference']} (Holm's p < {SURE:g}). Bold: on the frontier of erasure against "
        f"retention. {given_sentence(summary)}"
    )
    rows = []
    for label, condition in summary["arms"].items():
        name = f"**{label}**" if label in summary["frontier"]["efficient"] else label
        seconds = number(condition["spread"].get("train_seconds", {}).get("mean"))
        rows.append([name, condition["given"], *(_main_cell(summary, m, label) for m in metrics), seconds])
    head = ["method", "given", *map(unit, metrics), registered("train_seconds").title]
    return Table("Methods", note, head, rows)


def given_sentence(summary: Mapping[str, Any]) -> str:
    """Which methods were given the very neighbours by which retention is judged."""
    given = [label for label, one in summary["arms"].items() if "neighbour" in one["given"]]
    if not given:
        return "No method was given a neighbour by which it is judged."
    return f"Given neighbours by which they are judged: {', '.join(given)}."


def _main_cell(summary: Mapping[str, Any], metric: Mapping[str, Any], label: str) -> str:
    spread = summary["arms"][label]["spread"].get(metric["name"])
    if spread is None:
        return NONE
    mean, sd = number(spread["mean"], metric["digits"]), number(spread["sd"], metric["digits"])
    p = _difference(summary, metric, label).get("p_holm")
    return mean + (f" ± {sd}" if sd != NONE else "") + (" *" if p is not None and p < SURE else "")


def _difference(summary: Mapping[str, Any], metric: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    """The condition's comparison with the reference; empty where there is none."""
    comparison: Mapping[str, Any] = summary["against_reference"].get(metric["name"], {}).get(label, {})
    return comparison


def metric_tables(summary: Mapping[str, Any]) -> list[Table]:
    """One table a metric: spread, interval, and the difference to the reference."""
    return [_metric_table(summary, metric) for metric in summary["metrics"]]


def _metric_table(summary: Mapping[str, Any], metric: Mapping[str, Any]) -> Table:
    digits, rows = metric["digits"], []
    for label, condition in summary["arms"].items():
        if (spread := condition["spread"].get(metric["name"])) is None:
            continue
        c = _difference(summary, metric, label)
        spreads = [number(spread[key], digits) for key in ("mean", "sd_targets", "sd_seeds")]
        difference = [number(c.get("difference"), digits), interval(c, digits)]
        p_values = [number(c.get(key), 4) for key in ("p", "p_holm")]
        rows.append([label, *spreads, interval(spread, digits), str(spread["n"]), *difference, *p_values])
    note = (
        f"{metric['meaning']}; {metric['better']} is better. The difference is {summary['reference']} "
        "minus the row."
    )
    own = ["mean", "sd of targets", "sd of seeds", "95 % interval", "cells"]
    against = ["difference", "95 % interval", "p", "p, Holm"]
    return Table(unit(metric), note, ["method", *own, *against], rows)


def target_table(summary: Mapping[str, Any], name: str) -> Table:
    """One metric by condition and target, means over seeds."""
    metric = next(m for m in summary["metrics"] if m["name"] == name)
    targets, means = summary["plan"]["targets"], summary["per_target"][name]
    rows = [[label, *(number(m.get(t), metric["digits"]) for t in targets)] for label, m in means.items()]
    return Table(f"{unit(metric)}, by target", "Means over seeds.", ["method", *targets], rows)


def significance(summary: Mapping[str, Any]) -> Table:
    """Holm's p of each condition against the reference, by metric, with the sign of the difference."""
    metrics, reference = summary["metrics"], summary["reference"]
    others = [label for label in summary["arms"] if label != reference]
    rows = [[label, *(_verdict(_difference(summary, m, label), m) for m in metrics)] for label in others]
    note = (
        f"{reference} against each: better, worse or the same, with Holm's p over the methods (paired "
        "bootstrap over targets and seeds)."
    )
    return Table("Significance", note, ["method", *(str(m["title"]) for m in metrics)], rows)


def _verdict(comparison: Mapping[str, Any], metric: Mapping[str, Any]) -> str:
    p = comparison.get("p_holm")
    if p is None:
        return NONE
    gain = comparison["difference"] if metric["better"] == "higher" else -comparison["difference"]
    word = "same" if p >= SURE else "better" if gain > 0 else "worse"
    return f"{word}, {p:.3f}"


def cost_table(summary: Mapping[str, Any]) -> Table:
    """What a cell costs, means."""
    costs, devices, timed_on = summary["costs"], summary["devices"], summary["timed_on"]
    rows = [
        [label, *(number(condition["spread"].get(m["name"], {}).get("mean"), m["digits"]) for m in costs)]
        for label, condition in summary["arms"].items()
    ]
    note = "Means a cell."
    if sum(devices.values()) > devices.get(timed_on, 0):
        note += f" Seconds and memory: of the {devices[timed_on]} cells made on {timed_on} alone."
    return Table("Cost", note, ["method", *(str(m["title"]) for m in costs)], rows)


def settings_table(summary: Mapping[str, Any]) -> Table:
    """What tuning chose for each condition."""
    tuned, rows = summary["tuning"]["methods"], []
    for label in summary["arms"]:
        if best := tuned.get(label):
            setting, edge = f"`{' '.join(best['overrides'])}`", ", ".join(edges(best)) or NONE
            rows.append([label, setting, str(len(best["trials"])), number(best["score"]), edge])
        else:
            rows.append([label, "not tuned: params.yaml and its own recipe", "0", NONE, NONE])
    note = f"Chosen on {', '.join(summary['tuning']['targets'])}, none of which is reported."
    note = " ".join(filter(None, [note, edge_sentence(tuned)]))
    return Table("Settings", note, ["method", "setting", "tries", "score", "at the edge"], rows)


def markdown(summary: Mapping[str, Any], figure: str) -> str:
    """``benchmark.md``. figure: the frontier's file name."""
    origin = f"`{summary['command']}`, commit {summary['commit']}, data md5 {summary['data_md5']}."
    if summary.get("archive"):
        origin += f" Cells of the archived record of commit {summary['archive']}."
    head = ["# Benchmark", "", origin, ""]
    missing = summary["cells"]["missing"]
    lines = [f"- {m['arm']}, {m['target']}, seed {m['seed']}: {m['why']}" for m in missing]
    gaps = [f"Missing cells ({len(missing)}):", "", *lines, ""] if missing else []
    if not summary["arms"]:
        return "\n".join([*head, *gaps])
    by_target = [target_table(summary, m["name"]) for m in summary["metrics"] if m["main"]]
    parts = [significance(summary), cost_table(summary), settings_table(summary)]
    rest = [table.markdown() for table in (*parts, *metric_tables(summary), *by_target)]
    first = [main_table(summary).markdown(), f"![erasure against retention]({figure})", ""]
    return "\n".join([*head, *first, *rest, *gaps])


def interval(bounds: Mapping[str, Any], digits: int) -> str:
    """``[90.1, 95.2]``; a dash where it was not computed."""
    if bounds.get("lo") is None:
        return NONE
    return f"[{number(bounds['lo'], digits)}, {number(bounds['hi'], digits)}]"
