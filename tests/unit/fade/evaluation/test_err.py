"""ERR against means worked out by hand, and what may never be glossed over."""

from __future__ import annotations

import math

import pytest

from fade.errors import EvaluationError
from fade.evaluation.err import SUCCESSES, balances, erasing_robustness, relative, successes_of


def five(**changes: float | None) -> dict[str, float | None]:
    return {**dict.fromkeys(SUCCESSES, 1.0), **changes}


@pytest.mark.parametrize(
    ("given", "want"),
    [
        (five(), 1.0),
        (dict.fromkeys(SUCCESSES, 0.6), 0.6),
        (five(adversarial=0.5), 5 / 6),
        (five(forget=0.5, indirect=0.25), 5 / 9),
        (five(adversarial=0.0), 0.0),
    ],
)
def test_err_is_the_harmonic_mean_of_five(given: dict[str, float | None], want: float) -> None:
    assert erasing_robustness(given) == pytest.approx(want)


@pytest.mark.parametrize("name", SUCCESSES)
def test_four_of_five_is_not_measured(name: str) -> None:
    for missing in (None, float("nan")):
        assert math.isnan(erasing_robustness(five(**{name: missing})))
    assert math.isnan(erasing_robustness({n: 1.0 for n in SUCCESSES if n != name}))
    other = next(n for n in SUCCESSES if n != name)
    assert math.isnan(erasing_robustness(five(**{name: None, other: 0.0}))), (
        "a zero does not stand in for what is missing"
    )


def test_percentages_and_strangers_are_refused() -> None:
    with pytest.raises(EvaluationError, match="retain = 97"):
        erasing_robustness(five(retain=97.0))
    with pytest.raises(EvaluationError, match="'adverserial' is no part"):
        erasing_robustness(five(adverserial=1.0))


def test_erasure_counts_as_it_is_and_retention_against_the_original() -> None:
    numbers = {
        "metrics": {"A_er": 90.0, "A_rest": 49.0, "A_adj": 100.0},
        "base_metrics": {"A_tar": 80.0, "A_rest": 98.0, "A_adj": 95.0},
    }
    found = successes_of(numbers, indirect=0.7, adversarial=None)
    assert math.isnan(found.pop("adversarial"))
    assert found == {"forget": 0.9, "retain": 0.5, "adjacent": 1.0, "indirect": 0.7}
    assert math.isnan(erasing_robustness(found))


def test_what_the_original_cannot_draw_cannot_be_retained() -> None:
    assert relative(30.0, 60.0) == 0.5 and relative(61.0, 60.0) == 1.0
    assert all(math.isnan(relative(*pair)) for pair in ((0.0, 0.0), (None, 50.0), (50.0, None)))


def test_the_balances_of_trained_and_of_held_out_neighbours() -> None:
    """Nearest neighbours that were trained on hide what happens to the next ones."""
    both = balances({"A_er": 100.0, "A_adj": 100.0, "A_heldout": 60.0})
    assert {name: float(value) for name, value in both.items()} == {"ERB": 100.0, "ERB_heldout": 75.0}
    for missing in (None, math.nan):
        found = balances({"A_er": 0.0, "A_adj": 0.0, "A_heldout": missing})
        assert float(found["ERB"]) == 0.0 and math.isnan(float(found["ERB_heldout"]))
