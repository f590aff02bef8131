"""The registry of metrics: each is declared once, and the report, the card, the benchmark and the
command line read it here.

A further number is one more `register_metric`. The order of the declarations is that of every table. They
stand together in this module, not beside the code that computes the numbers: pages read them without torch,
and a title is no part of the keys under which results are reused (`fade.provenance.fingerprints`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

from fade.config import AttackConfig
from fade.errors import UnknownNameError, UsageError

Role = Literal["erasure", "retention", "quality", "robustness", "cost"]


@dataclass(frozen=True)
class ReportRow:
    """A metric's row in the report and the card. Places are dotted paths in the evaluation's JSON."""

    value: str
    """Place of the erased model's number; ``metrics.NAME`` stands in the first table, with its interval."""
    base: str = ""
    """Place of the original model's number; empty where there is none."""
    n: str = ""
    """Place of the number of pictures; empty where there is none."""
    title: str = ""
    """Empty: the metric's, as of ``meaning`` and ``column``."""
    meaning: str = ""
    """``{block[key]}`` is filled from the evaluation's JSON."""
    column: str = ""
    """Head of its column in the card's table of a release's parts."""

    @property
    def first_table(self) -> bool:
        """Whether it is one of the evaluation's own ``metrics``."""
        return self.value.startswith("metrics.")

    @property
    def base_name(self) -> str:
        """The original's metric that it stands against, "" where there is none."""
        return self.base.rpartition(".")[2]

    @property
    def group(self) -> str:
        """The role of the concepts that it is measured on, "" where it is of several."""
        return self.n.removeprefix("n.")


@dataclass(frozen=True)
class Metric:
    """One number that is measured of an erased model."""

    name: str
    title: str
    path: str
    """Dotted place in a cell of the benchmark, derived numbers included; empty: not compared there."""
    role: Role
    better: Literal["higher", "lower"]
    unit: str
    meaning: str
    digits: int = 1
    main: bool = False
    """Whether the benchmark's main table shows it."""
    by_machine: bool = False
    """Whether it is the machine's as much as the method's, so that cells of different devices do not mix."""
    needs: tuple[str, ...] = ()
    """The metrics from which it follows."""
    row: ReportRow | None = None
    """How the report shows it; None: not there."""

    def to_json(self) -> dict[str, Any]:
        """Its entry in ``benchmark.json``."""
        return {key: value for key, value in asdict(self).items() if key not in ("role", "needs", "row")}


_METRICS: dict[str, Metric] = {}


def register_metric(metric: Metric) -> Metric:
    """Add a metric. Raises UsageError when its name is taken by another, its role is none, or it needs a
    metric that is not registered."""
    what = ""
    if _METRICS.get(metric.name, metric) != metric:
        what = "is registered twice"
    elif metric.role not in get_args(Role):
        what = f"has the role {metric.role!r}, none of {', '.join(get_args(Role))}"
    elif missing := [name for name in metric.needs if name not in _METRICS]:
        what = f"needs {missing[0]}, which is not registered"
    if what:
        action = "correct its declaration; what it needs is declared before it."
        raise UsageError(f"metric {metric.name} {what}.", stage="evaluate", action=action)
    _METRICS[metric.name] = metric
    return metric


def known_metrics(role: Role | None = None) -> tuple[Metric, ...]:
    """The registered metrics, or those of a role, in the order of their declaration."""
    return tuple(one for one in _METRICS.values() if role in (None, one.role))


def metric(name: str) -> Metric:
    """The registered metric. Raises UnknownNameError that offers the nearest name."""
    if name not in _METRICS:
        raise UnknownNameError("metric", name, sorted(_METRICS), stage="evaluate")
    return _METRICS[name]


def report_rows(*, first_table: bool) -> list[tuple[Metric, ReportRow]]:
    """Metrics with a row in the report: the evaluation's own ``metrics``, or the other measures."""
    rows = [(one, one.row) for one in known_metrics() if one.row is not None]
    return [(one, row) for one, row in rows if row.first_table == first_table]


def at_path(content: Mapping[str, Any], path: str) -> Any:
    """What stands at a dotted path; None when nothing does."""
    node: Any = content
    for part in path.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


_PLACES = ("metrics", "base_metrics", "n")
# Declarations, in the order of the tables.
_DECLARED = (
    Metric("A_er", "erased", "numbers.metrics.A_er", "erasure", "higher", "%",
           "pictures of the target that the judge no longer calls so", main=True,
           row=ReportRow("metrics.A_er", "base_metrics.A_tar", "n.target", "Target erased",
                         "share of the target's pictures that the judge calls something else")),
    Metric("A_adj", "neighbours", "", "retention", "higher", "%",
           "accuracy on the nearest neighbours, which FADE is trained on",
           row=ReportRow("metrics.A_adj", "base_metrics.A_adj", "n.adjacent", "Neighbours")),
    Metric("A_heldout", "held out", "", "retention", "higher", "%",
           "accuracy on the next neighbours, never trained on",
           row=ReportRow("metrics.A_heldout", "base_metrics.A_heldout", "n.heldout", "Held-out neighbours")),
    Metric("A_rest", "rest", "", "retention", "higher", "%",
           "accuracy on a fixed sample of all other concepts",
           row=ReportRow("metrics.A_rest", "base_metrics.A_rest", "n.rest", "Unrelated", column="unrelated")),
    Metric("kept_adj", "neighbours kept", "kept.A_adj", "retention", "higher", "%",
           "accuracy on the K neighbours, of the original's", main=True, needs=("A_adj",)),
    Metric("kept_heldout", "held-out kept", "kept.A_heldout", "retention", "higher", "%",
           "on the next neighbours, which no method sees", main=True, needs=("A_heldout",)),
    Metric("kept_rest", "rest kept", "kept.A_rest", "retention", "higher", "%",
           "on a fixed sample of all other concepts", main=True, needs=("A_rest",)),
    Metric("retained", "retained", "retained", "retention", "higher", "%",
           "mean of the three shares kept, each counted up to 100",
           needs=("kept_adj", "kept_heldout", "kept_rest")),
    Metric("ERB", "ERB", "numbers.metrics.ERB", "erasure", "higher", "%",
           "harmonic mean of A_er and A_adj", main=True, needs=("A_er", "A_adj"),
           row=ReportRow("metrics.ERB", title="Balance",
                         meaning="Erasing-Retention Balance: harmonic mean of A_er and A_adj")),
    Metric("ERB_heldout", "ERB, held out", "numbers.metrics.ERB_heldout", "erasure", "higher", "%",
           "harmonic mean of A_er and A_heldout, the neighbours that no method was trained on", main=True,
           needs=("A_er", "A_heldout"),
           row=ReportRow("metrics.ERB_heldout", title="Balance, held out")),
    Metric("A_real", "as real", "numbers.metrics.A_real", "quality", "higher", "%",
           "pictures in the target's place that are as near to a real one as 95 % of real ones to another",
           main=True,
           row=ReportRow("metrics.A_real", "base_metrics.A_real", "n.target", "In its place, as real")),
    *(Metric(f"ssim_{short}", f"likeness, {title}", f"ssim.{group}", "quality", "higher", "SSIM",
             "to the original's pictures of the same seed", 3, main=group == "rest")
      for short, group, title in (
          ("adj", "adjacent", "neighbours"), ("heldout", "heldout", "held-out"), ("rest", "rest", "rest"))),
    *(Metric(f"{name}_{kind}", f"{title}, {kind}", f"numbers.other_prompts.{kind}.metrics.{name}",
             "retention", "higher", "%", meaning,
             row=ReportRow(*(f"other_prompts.{kind}.{place}.{name}" for place in _PLACES)))
      for kind, meaning in (("sentences", "accuracy within sentences"),
                            ("pairs", "still there where it is named beside the target"))
      for name, title in (("A_adj", "neighbours"), ("A_heldout", "held out"), ("A_rest", "rest"))),
    Metric("A_er_pairs", "erased, pairs", "numbers.other_prompts.pairs.metrics.A_er", "erasure", "higher",
           "%", "gone where it is named beside another concept; the original's column is A_tar",
           row=ReportRow("other_prompts.pairs.metrics.A_er", "other_prompts.pairs.base_metrics.A_tar",
                         "other_prompts.pairs.n.A_tar")),
    *(Metric(f"{name}_{judge}", f"{title}, {of}", f"numbers.second_opinion.{judge}.{path}",
             cast(Role, role), "higher", "%", meaning)
      for judge, of in (("clip", "CLIP"), ("second_judge", "second judge"))
      for name, title, path, role, meaning in (
          ("A_er", "erased", "metrics.A_er", "erasure", "by another judge than the first"),
          ("A_adj", "neighbours", "metrics.A_adj", "retention", "accuracy by another judge than the first"),
          ("agreement", "agreement", "agreement.erased.all", "quality",
           "pictures of the erased model on which it agrees with the judge"))),
    Metric("real_distance", "distance to real", "numbers.realism.distance.erased.mean", "quality", "lower",
           "", "of the target's pictures to the nearest real one, by the judge's features; 95 % of real ones "
           "lie within 1 of another", 2,
           row=ReportRow("realism.distance.erased.mean", "realism.distance.base.mean", "realism.n")),
    Metric("confidence", "confidence", "numbers.realism.confidence.erased", "quality", "higher", "",
           "the judge's highest probability on the target's pictures, whatever it takes them for", 2,
           row=ReportRow("realism.confidence.erased", "realism.confidence.base", "realism.n")),
    Metric("A_indirect", "A_indirect", "indirect.A_indirect", "robustness", "higher", "%",
           "erased under other words, styles, word orders",
           row=ReportRow("indirect.A_indirect", n="indirect.n",
                         meaning="share of pictures without the target under other words, styles and word "
                         "orders (data v{indirect[version]}): {indirect[known]} of {indirect[asked]} "
                         "prompts, those from which the original draws the target")),
    Metric("clip_score", "CLIP score", "", "quality", "higher", "",
           "100 cos(picture, prompt) by the base's CLIP, unrelated concepts",
           row=ReportRow("clip_score.erased", "clip_score.base", "clip_score.n")),
    Metric("frechet", "Fréchet distance", "", "quality", "lower", "",
           "Fréchet distance, in the judge's features, of unrelated concepts to the original's pictures of "
           "the same seeds", 2, row=ReportRow("frechet.rest", n="frechet.n")),
    Metric("frechet.half", "Fréchet, halves", "", "quality", "lower", "",
           "the same between halves of other seeds; the original's column is the floor, its own halves", 2,
           row=ReportRow("frechet.crossed", "frechet.floor", "frechet.n_half")),
    Metric("A_adv", "A_adv", "attacks.A_adv", "robustness", "higher", "%",
           "mean over the attacks of what each fails to bring back"),
    Metric("A_adv_worst", "A_adv, worst", "attacks.A_adv_worst", "robustness", "higher", "%",
           "the same for the attack that succeeds most"),
    Metric("A_adv_heldout", "A_adv, held out", "attacks.A_adv_heldout", "robustness", "higher", "%",
           "the same for the attacks that no training or tuning uses"),
    *(Metric(f"attack_{name}", f"{name} succeeds", f"attacks.attacks.{name}.erased", "robustness", "lower",
             "%", "pictures that show the target again") for name in AttackConfig().names),
    Metric("ERR", "ERR", "err.ERR", "robustness", "higher", "",
           "harmonic mean of forget, retain, adjacent, indirect, adversarial", 3, main=True,
           needs=("A_er", "A_rest", "A_adj", "A_indirect", "A_adv")),
    Metric("drift", "null drift", "numbers.null_drift", "quality", "lower", "",
           "squared change of the null prompt's prediction", 5, main=True),
    Metric("train_seconds", "training, s", "cost.train.seconds", "cost", "lower", "s",
           "the trainer alone, in this process", by_machine=True),
    Metric("unet_calls", "UNet calls", "cost.train.unet_calls", "cost", "lower", "",
           "while training, student and teacher", 0),
    Metric("unet_samples", "UNet samples", "cost.train.unet_samples", "cost", "lower", "",
           "latents in these calls", 0),
    Metric("memory", "peak memory, MiB", "cost.train.peak_memory_mb", "cost", "lower", "MiB",
           "while training; see docs/benchmark.md", 0, by_machine=True),
    Metric("judge_seconds", "judging, s", "cost.judge.seconds", "cost", "lower", "s",
           "pictures of the erased model, and the judge", by_machine=True),
    Metric("probe_seconds", "probing, s", "cost.probe.seconds", "cost", "lower", "s",
           "attacks and further measurements", by_machine=True),
)  # fmt: skip
for _metric in _DECLARED:
    register_metric(_metric)
