"""The benches' target lists: tuned and reported are disjoint, and half of what is reported is hard."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fade.config import read_yaml
from fade.run.resolve_params import load_params


@pytest.fixture(scope="module")
def lists(repo: Path) -> tuple[set[str], set[str], set[str]]:
    """TUNING, REPORTED, and the targets of the ESD check."""
    sys.path.insert(0, str(repo / "bench"))
    try:
        import esd
        import targets
    finally:
        sys.path.remove(str(repo / "bench"))
    return set(targets.TUNING), set(targets.REPORTED), set(esd.TARGETS)


@pytest.fixture(scope="module")
def tight(repo: Path) -> dict[str, bool]:
    """Concept -> whether its family is tight."""
    recipe = read_yaml((repo / "fade" / "pretrain" / "vocabulary.yaml").read_text(encoding="utf-8"))
    return {
        concept: family["kind"] == "tight"
        for family in recipe["families"].values()
        for concept in family["concepts"]
    }


def test_no_reported_target_is_tuned_on(lists: tuple[set[str], set[str], set[str]]) -> None:
    tuned, reported, _ = lists
    assert not tuned & reported


def test_reported_targets_are_known_and_half_of_them_hard(
    lists: tuple[set[str], set[str], set[str]], tight: dict[str, bool]
) -> None:
    tuned, reported, esd = lists
    assert tuned | reported | esd <= set(tight)
    assert {"panda", "tulip", "lemon"} <= reported and len(reported) >= 12
    assert sum(tight[name] for name in reported) >= 6 and len(esd) == 6 and all(tight[name] for name in esd)


def test_the_benchmark_tunes_and_reports_on_others(
    lists: tuple[set[str], set[str], set[str]], repo: Path
) -> None:
    tuned, reported, _ = lists
    bench = load_params(repo / "params.yaml").bench
    assert set(bench.tuning) <= tuned and not set(bench.targets) & tuned
    assert set(bench.targets) - reported == {"red heart"}  # the hearts' second: no list had two of them
    recipe = read_yaml((repo / "fade" / "pretrain" / "vocabulary.yaml").read_text(encoding="utf-8"))[
        "families"
    ]
    counts = {
        name: sum(target in family["concepts"] for target in bench.targets) for name, family in recipe.items()
    }
    assert {name: n for name, n in counts.items() if recipe[name]["kind"] == "tight" and n} == {
        "cat faces": 2,
        "hearts": 2,
        "cars": 2,
    }
    assert sum(counts.values()) == 9 and len(bench.seeds) == 3
