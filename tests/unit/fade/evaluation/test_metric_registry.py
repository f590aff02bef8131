"""A metric is declared once: whatever shows numbers shows it, in the order of the declarations."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import get_args

import pytest

from fade.benchmark.metrics import compared_metrics
from fade.errors import UnknownNameError, UsageError
from fade.evaluation import metrics
from fade.evaluation.metrics import Metric, ReportRow, Role, known_metrics, metric, register_metric
from fade.reporting.card import card
from fade.reporting.verdict import metric_rows
from tests.unit.fade.reporting import samples

TEXTURE = Metric("texture", "texture", "numbers.texture", "quality", "lower", "", "of the pictures", 2)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, Metric]:
    """A registry that a test may add to."""
    copy = dict(metrics._METRICS)
    monkeypatch.setattr(metrics, "_METRICS", copy)
    return copy


def test_a_registered_metric_is_in_the_benchmark_the_report_and_the_card(registry: dict[str, Metric]) -> None:
    register_metric(replace(TEXTURE, row=ReportRow("texture.erased", "texture.base", "texture.n")))
    register_metric(
        Metric("A_far", "far", "", "retention", "higher", "%", "far concepts", row=ReportRow("metrics.A_far"))
    )
    result = samples.result()
    result |= {"texture": {"erased": 0.25, "base": 0.5, "n": 12}}
    result["metrics"] |= {"A_far": 87.77}
    assert compared_metrics()[-1].name == "texture" and "texture" not in [
        m.name for m in known_metrics("cost")
    ]
    assert metric_rows(result, first_table=False) == [{
        "key": "texture", "base_key": "base", "role": "texture.n", "title": "texture", "column": "texture",
        "n": 12, "digits": 2, "meaning": "of the pictures", "base": 0.5, "base_interval": None,
        "erased": 0.25, "interval": None,
    }]  # fmt: skip
    assert metric_rows(result)[-1] == {
        "key": "A_far", "base_key": "", "role": "", "title": "far", "column": "far", "digits": 1,
        "meaning": "far concepts", "n": None, "erased": 87.77, "interval": None, "base": None,
        "base_interval": None,
    }  # fmt: skip
    assert "| A\\_far | — | — | 87.8 | far concepts |" in card(result, {}, base_model="base", command="fade")


def test_the_first_table_is_that_of_the_evaluation() -> None:
    table = {row["key"]: row for row in metric_rows(samples.result())}
    assert list(table) == list(samples.result()["metrics"])
    assert (table["A_er"]["base_key"], table["A_er"]["base"], table["A_er"]["n"]) == ("A_tar", 98.73, 24)
    assert table["A_er"]["base_interval"] == [90.11, 99.81] and table["ERB"]["interval"] == [90.59, 97.7]
    assert (table["ERB"]["base"], table["ERB"]["n"], table["A_heldout"]["n"]) == (None, None, 23)


def test_every_metric_has_a_role_and_a_role_lists_its_own() -> None:
    by_role = [one.name for role in get_args(Role) for one in known_metrics(role)]
    assert sorted(by_role) == sorted(one.name for one in known_metrics()) and len(by_role) == len(
        set(by_role)
    )
    titles = [metric(name).title for name in ("A_er", "kept_adj", "kept_heldout", "kept_rest", "ERB")]
    assert titles == ["erased", "neighbours kept", "held-out kept", "rest kept", "ERB"]  # the gate's criteria


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (replace(metric("ERB"), title="another"), "is registered twice"),
        (replace(TEXTURE, role="taste"), "has the role 'taste'"),  # type: ignore[arg-type]
        (replace(TEXTURE, needs=("A_er", "A_none")), "needs A_none"),
    ],
)
def test_a_wrong_declaration_is_an_error(registry: dict[str, Metric], wrong: Metric, what: str) -> None:
    before = dict(registry)
    with pytest.raises(UsageError, match=what):
        register_metric(wrong)
    assert registry == before and register_metric(metric("ERB")) == metric("ERB")


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="kept_adj"):
        metric("kept_adk")


def test_the_registry_is_read_without_torch() -> None:
    code = "import sys, fade.evaluation.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
