"""The rule of tuning by hand, and what it keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fade.benchmark.tuning import choose, edge_sentence, edges, read_tuned, score, trial_of, write_tuned
from fade.config import BenchConfig
from fade.errors import ConfigError
from tests.unit.fade.benchmark.cells import numbers

MADE = {"data_md5": "d", "commit": "abc"}


def cell(*values: float, base: float = 100.0) -> dict[str, Any]:
    return {"numbers": numbers(*values, base=base)}


@pytest.mark.parametrize(
    ("values", "base", "wanted"),
    [
        ((100, 100, 100), 100, 100.0),
        ((50, 100, 100), 100, 75.0),  # 3 / (1/50 + 1/100 + 1/100)
        ((0, 100, 100), 100, 0.0),  # nothing erased
        ((100, 0, 0), 100, 0.0),  # nothing kept
        ((100, 60, 50), 50, 100.0),  # kept counts up to 100, of what the base could do
    ],
)
def test_the_score_by_hand(values: tuple[float, ...], base: float, wanted: float) -> None:
    assert score(cell(*values, base=base)) == pytest.approx(wanted)


def test_the_best_mean_wins_and_of_equals_the_first() -> None:
    low = trial_of(["a=1"], {"pear": cell(50, 100, 100), "koala": cell(100, 100, 100)})
    high = trial_of(["a=2"], {"pear": cell(90, 90, 90), "koala": cell(90, 90, 90)})
    assert (low["score"], high["score"], low["targets"]) == (87.5, 90.0, {"pear": 75.0, "koala": 100.0})
    assert (high["erased"], high["retained"]) == (90.0, 93.33)
    assert choose([low, high])["overrides"] == ["a=2"] and choose([high, {**high, "overrides": ["a=3"]}])[
        "overrides"
    ] == ["a=2"]
    assert len(choose([low, high])["trials"]) == 2


def test_a_setting_that_could_not_be_trained_scores_0_there() -> None:
    half = trial_of(["a=1"], {"pear": None, "koala": cell(100, 100, 100)})
    none = trial_of(["a=2"], {"pear": None})
    assert half["score"] == 50.0 and none["score"] == 0.0 and none["erased"] is None


def tried(**scores: float) -> dict[str, Any]:
    """What is chosen of settings, written ``lr=1,steps=2``, by their scores."""
    return choose([{"overrides": text.split(","), "score": score} for text, score in scores.items()])


@pytest.mark.parametrize(
    ("scores", "edge"),
    [
        ({"lr=1": 50, "lr=2": 70, "lr=4": 60}, {}),
        ({"lr=1": 80, "lr=2": 70, "lr=4": 60}, {"lr": "1"}),
        ({"lr=1": 50, "lr=2": 60, "lr=4": 70}, {"lr": "4"}),
        ({"lr=4": 70, "lr=2": 70, "lr=1": 60}, {}),  # another as good lies inside
        ({"lr=4": 70, "lr=1": 70}, {"lr": "4"}),
        ({"lr=1": 100, "lr=2": 70, "lr=4": 60}, {}),  # nothing can be better
        ({"lr=1,w=5": 50, "lr=2,w=5": 70, "lr=4,w=5": 60}, {}),  # w is not searched
        ({"lr=1": 50, "lr=2": 60, "lr=4": 55, "lr=2,w=5": 70}, {"w": "5"}),  # of w one value alone was tried
        ({"lr=1e-3": 50, "lr=2e-3": 60, "lr=4e-3": 70}, {"lr": "0.004"}),
        ({"name=a": 50, "name=b": 60}, {}),  # no number has no edge
    ],
)
def test_a_best_at_the_edge_of_its_sweep_is_found(scores: dict[str, float], edge: dict[str, str]) -> None:
    assert edges(tried(**scores)) == edge


def test_the_sentence_names_the_arm_and_the_knob() -> None:
    methods = {
        "esd/x": tried(**{"train.lr=1e-3": 40, "train.lr=5e-4": 50}),
        "fade/paper": tried(**{"train.lr=1e-3": 40, "train.lr=2e-3": 50, "train.lr=4e-3": 30}),
    }
    assert edge_sentence(methods) == (
        "At the edge of what was tried, so not settled: esd/x (train.lr=0.0005)."
    )
    del methods["esd/x"]
    assert edge_sentence(methods) == ""


def test_what_was_chosen_is_read_back_and_added_to(tmp_path: Path) -> None:
    path, bench = tmp_path / "bench" / "tuned.yaml", BenchConfig()
    assert read_tuned(path, bench.targets, "d") == {}
    best = choose([trial_of(["train.lr=1e-3"], {"pear": cell(90, 90, 90)})])
    write_tuned(path, {"esd/x": best}, bench, MADE)
    write_tuned(path, {"uce/keys-values": best}, bench, MADE)
    assert {name: found["overrides"] for name, found in read_tuned(path, bench.targets, "d").items()} == {
        "esd/x": ["train.lr=1e-3"], "uce/keys-values": ["train.lr=1e-3"],
    }  # fmt: skip
    write_tuned(path, {"fade/paper": best}, bench, {**MADE, "data_md5": "other"})
    assert list(read_tuned(path, bench.targets, "other")) == ["fade/paper"], (
        "choices on other data do not mix"
    )
    with pytest.raises(ConfigError, match=r"was tuned on the data other, not on d\. .*--tune"):
        read_tuned(path, bench.targets, "d")


def test_settings_tuned_on_a_target_are_never_reported_on_it(tmp_path: Path) -> None:
    path = tmp_path / "tuned.yaml"
    write_tuned(path, {}, BenchConfig(), MADE)
    with pytest.raises(ConfigError, match=r"was tuned on blue-heart, which would be reported"):
        read_tuned(path, ["panda", "Blue heart"], "d")


@pytest.mark.parametrize(
    "text",
    ["[]", "targets: [pear]", "{targets: [pear], methods: {esd/x: 3}}", "{", "targets: 3\nmethods: {}"],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tuned.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"tuned\.yaml"):
        read_tuned(path, ["panda"], "d")


def test_the_file_says_how_it_was_chosen(tmp_path: Path) -> None:
    content = yaml.safe_load(write_tuned(tmp_path / "tuned.yaml", {}, BenchConfig(), MADE).read_text())
    assert (
        content["targets"] == list(BenchConfig().tuning)
        and "harmonic mean" in content["rule"]
        and content["data_md5"] == "d"
    )
