"""docs/scale.md: its tables are those of the results, each hour by the formula beside it; every goal gets a
verdict."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from tests.support import bench_module


@pytest.fixture
def scale_page() -> Any:
    """The module that writes the page."""
    return bench_module("scale_page")


RESULT: dict[str, Any] = {
    "neighbours": [{"concepts": 1000, "median_ms": 0.4, "slowest_ms": 2.0, "n": 50}],
    "shared": {
        "latents": 1000,
        "undisturbed": {
            "workers": 4,
            "pictures": [95, 105, 100, 100],
            "latents": [250] * 4,
            "same_bytes": True,
        },
        "killed": {
            "killed": 1,
            "pictures": [30, 124, 123, 123],
            "latents": [85, 310, 308, 307],
            "same_bytes": True,
            "exit_codes": [-9, 0, 0, 0],
        },
    },
    "counted": {
        "sd15": {"forward_tflop": 0.8, "decode_tflop": 2.0, "steps": 25},
        "sdxl": {"forward_tflop": 6.0, "decode_tflop": 10.0, "steps": 30},
    },
}


def missed(scale_page: Any, *place: Any, value: Any) -> list[str]:
    """The goals that are missed with one value of RESULT changed."""
    result = deepcopy(RESULT)
    part = result
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    return [goal for goal, _, met in scale_page.goals(result) if not met]


def test_every_goal_can_be_met_and_missed(scale_page: Any) -> None:
    assert len(scale_page.goals(RESULT)) == 5 and all(met for _, _, met in scale_page.goals(RESULT))
    for place, value, words in (
        (("neighbours", 0, "median_ms"), 50.1, "at most 50 ms"),
        (("shared", "undisturbed", "pictures"), [111, 89, 100, 100], "within 10% of even"),
        (("shared", "killed", "same_bytes"), False, "done by the others"),
        (("shared", "killed", "exit_codes"), [-9, 0, 1, 0], "done by the others"),
        (("shared", "killed", "latents"), [95, 310, 308, 308], "1.02 times the needed, killed"),
        (("shared", "undisturbed", "latents"), [260] * 4, "1.02 times the needed, undisturbed"),
    ):
        found = missed(scale_page, *place, value=value)
        assert len(found) == 1 and words in found[0], (place, found)


def test_hours_are_those_of_the_formula(scale_page: Any) -> None:
    one = RESULT["counted"]["sd15"]
    assert scale_page.picture(one) == 2 * 25 * 0.8 + 2.0
    rows = scale_page.hours(one, 3564.0, 36.0)
    mine = next(row for row in rows if row.startswith("| Stanford Dogs: mine"))
    hours = 120 * 8 * 42.0 / (312 * scale_page.REACHED) / 3600
    cells = [cell.strip() for cell in mine.strip("|").split("|")]
    assert cells[1] == "120 x 8 pictures" and float(cells[2]) == pytest.approx(hours, rel=0.05)
    assert float(cells[4]) == pytest.approx(hours / 8, rel=0.05)
    every = next(row for row in rows if row.startswith("| Stanford Dogs: every concept a target"))
    tflop = 120 * 3564 * 0.8 + (120 + 120 * 23) * 24 * 42.0
    hours = tflop / (989 * scale_page.REACHED) / 3600 + 120 * 0.01  # 36 s of each run
    assert float(every.split("|")[4]) == pytest.approx(hours, rel=0.05)
    train = next(row for row in rows if row.startswith("| train one target"))
    assert train.split("|")[3] == train.split("|")[5]  # one training is one GPU's


def test_the_page_has_the_tables_of_the_results(scale_page: Any) -> None:
    assert scale_page.PAGE.read_text(encoding="utf-8") == scale_page.page()
