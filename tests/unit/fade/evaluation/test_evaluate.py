"""The evaluation on pictures whose answer is known by hand: which model, which group, which seeds."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from fade.config import EvaluateConfig, SamplerConfig
from fade.data.vocabulary import Concept, Vocabulary
from fade.errors import AdapterError, BaseModelError, EvaluationError
from fade.evaluation.evaluate import evaluate, measured
from fade.generation.generator import Pictures
from tests.unit.fade.evaluation.support import Switch

NAMES = ("panda", "bear", "koala", "rose", "taxi")
WORLD = Vocabulary(tuple(Concept(name, "all") for name in NAMES))
CONFIG = EvaluateConfig(images_per_concept=4, rest_concepts=1, seed=50, bootstrap=100, prompt_images=0)


class Painter:
    """Pictures whose grey level is the label that the judge will give; the erased model draws pandas and half
    the bears as koalas. ``blank``: (model, concept) -> how many of its pictures have one colour."""

    def __init__(self, lora: Switch, blank: Mapping[tuple[str, str], int]) -> None:
        self.blank = blank
        self.mesh, self.base, self.sampler, self.asked = lora, None, SamplerConfig(), []  # type: ignore[var-annotated]

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], adapter: str = "", on_batch: Any = None
    ) -> dict[str, Pictures]:
        assert self.mesh.on == bool(adapter), (
            "the adapter must be off for the base's pictures and on for the erased model's"
        )
        self.asked.append((adapter, tuple(seeds)))
        return {prompt: self._paint(prompt, len(seeds), bool(adapter)) for prompt in prompts}

    def _paint(self, prompt: str, n: int, erased: bool) -> Pictures:
        name = next(n for n in NAMES if n in prompt.lower())
        labels = [NAMES.index(name)] * n
        if erased and name in ("panda", "bear"):
            labels[: n if name == "panda" else n // 2] = [NAMES.index("koala")] * (
                n if name == "panda" else n // 2
            )
        pixels = np.ones((n, 8, 8, 3), np.uint8) * np.array(labels, np.uint8)[:, None, None, None]
        pixels[: n - self.blank.get(("erased" if erased else "base", name), 0), 4:] = 255
        return Pictures(torch.zeros(n, 4, 2, 2), pixels, "")


class Reader:
    """A judge that reads the grey level."""

    labels: ClassVar = list(NAMES)

    def index(self, name: str) -> int:
        return NAMES.index(name)

    def require(self, names: Sequence[str]) -> None:
        for name in names:
            self.index(name)

    def __call__(self, pixels: np.ndarray) -> torch.Tensor:
        grey = pixels[:, 0, 0, 0].astype(int).clip(max=len(NAMES) - 1)  # paper is the last one
        return torch.eye(len(NAMES))[torch.from_numpy(grey)]

    def with_features(self, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        odds = self(pixels)
        return odds, odds


class Encoder(Reader):
    """A CLIP in which pictures and texts of a concept point one way, but a taxi's text at 60 degrees from its
    picture."""

    def text(self, prompts: Sequence[str]) -> torch.Tensor:
        rows = torch.eye(len(NAMES))
        rows[NAMES.index("taxi")] = 0.5 * rows[NAMES.index("taxi")] + 0.75**0.5 * rows[0]
        return rows[[NAMES.index(p.removeprefix("a ")) for p in prompts]]


def run(
    monkeypatch: pytest.MonkeyPatch,
    config: EvaluateConfig,
    blank: Mapping[tuple[str, str], int] = MappingProxyType({}),
    judge: Reader | None = None,
    **more: Any,
) -> tuple[dict[str, Any], Painter]:
    monkeypatch.setattr(sys.modules["fade.evaluation.evaluate"], "null_drift", lambda *_, **__: 0.25)
    monkeypatch.setattr(
        sys.modules["fade.evaluation.evaluate"],
        "drift_curve",
        lambda _, __, latents, **___: [{"n": len(latents)}],
    )
    lora = Switch()
    painter = Painter(lora, blank)
    neighborhood = SimpleNamespace(
        target="panda", targets=["panda"], neighbours=["bear", "koala"], heldout=["rose"]
    )
    judge = judge or Reader()
    what = (painter, lora, "a" * 64, neighborhood, WORLD, judge, config)
    found = evaluate(*what, encoder=Encoder(), **more)  # type: ignore[arg-type]
    return found.numbers, painter


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], Painter]:
    return run(monkeypatch, CONFIG)


def test_the_numbers_are_those_counted_by_hand(judged: tuple[dict[str, Any], Painter]) -> None:
    numbers, _ = judged
    groups = ("A_tar", "A_adj", "A_heldout", "A_rest")
    assert numbers["base_metrics"] == {**dict.fromkeys(groups, 100.0), "A_real": None}
    assert {k: numbers["metrics"][k] for k in ("A_er", "A_adj", "A_heldout", "A_rest")} == {
        "A_er": 100.0, "A_adj": 75.0, "A_heldout": 100.0, "A_rest": 100.0,
    }  # fmt: skip
    assert numbers["metrics"]["ERB"] == pytest.approx(2 * 100 * 75 / 175)
    assert numbers["metrics"]["ERB_heldout"] == 100.0 and numbers["metrics"]["A_real"] is None
    assert numbers["confusion"] == [{"becomes": "koala", "count": 4, "share": 100.0}]
    assert numbers["n"] == {"per_concept": 4, "target": 4, "adjacent": 8, "heldout": 4, "rest": 4}
    assert numbers["rest"] == ["taxi"] and numbers["target_probability"] == {"base": 1.0, "erased": 0.0}
    lo, hi = numbers["intervals"]["A_adj"]
    assert lo < 75 < hi and numbers["base_intervals"]["A_adj"] == [100.0, 100.0]


def test_several_targets_are_judged_as_one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["fade.evaluation.evaluate"], "null_drift", lambda *_, **__: 0.25)
    monkeypatch.setattr(sys.modules["fade.evaluation.evaluate"], "drift_curve", lambda *_, **__: [])
    lora, targets = Switch(), ["panda", "bear"]
    neighborhood = SimpleNamespace(target="panda + bear", targets=targets, neighbours=["koala"], heldout=[])
    numbers = evaluate(
        Painter(lora, {}), lora, "a" * 64, neighborhood, WORLD, Reader(), CONFIG, encoder=Encoder()
    ).numbers  # type: ignore[arg-type]
    assert (
        numbers["target"] == "panda + bear" and numbers["targets"] == targets and numbers["n"]["target"] == 8
    )
    assert (
        numbers["metrics"]["A_er"] == pytest.approx(75.0) and numbers["base_metrics"]["A_tar"] == 100.0
    )  # half of the bears are left
    assert [(e["becomes"], e["count"]) for e in numbers["confusion"]] == [("koala", 6), ("bear", 2)]
    assert numbers["target_probability"] == {"base": 1.0, "erased": 0.25}


def test_both_models_are_judged_on_the_same_seeds(judged: tuple[dict[str, Any], Painter]) -> None:
    assert judged[1].asked == [("", (50, 51, 52, 53)), ("a" * 64, (50, 51, 52, 53))]


def test_utility_is_measured_on_the_unrelated_concepts(judged: tuple[dict[str, Any], Painter]) -> None:
    numbers, _ = judged
    assert numbers["clip_score"] == {"base": pytest.approx(50), "erased": pytest.approx(50), "n": 4}
    # Four pictures of one grey level in both models: no spread, no distance.
    assert numbers["frechet"] == {"rest": 0, "crossed": 0, "floor": 0, "n": 4, "n_half": 2}
    assert numbers["drift_over_t"] == [{"n": 5}], "one latent of each of the five concepts"
    assert "indirect" not in numbers


def test_without_unrelated_concepts_utility_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, _ = run(monkeypatch, CONFIG.model_copy(update={"rest_concepts": 0}))
    assert numbers["clip_score"] == {"base": None, "erased": None, "n": 0}
    assert numbers["frechet"] == {"rest": None, "crossed": None, "floor": None, "n": 0, "n_half": 0}


def test_indirect_prompts_are_drawn_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, painter = run(monkeypatch, CONFIG.model_copy(update={"indirect_images": 2}))
    assert numbers["indirect"]["A_indirect"] == 100 and numbers["indirect"]["base"] == 100
    # Descriptions do not hold the name: the painter takes them for what it finds in them, the black and white
    # bear for a bear.
    assert "a black and white bear" in numbers["indirect"]["unknown"]
    assert painter.asked[2:] == [("", (50, 51)), ("a" * 64, (50, 51))]


def test_sentences_and_pairs_are_judged_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, painter = run(monkeypatch, CONFIG.model_copy(update={"prompt_images": 1, "pairs": ()}))
    found = numbers["other_prompts"]["sentences"]
    assert found["metrics"]["A_heldout"] == 100 and found["n"] == {"A_adj": 6, "A_heldout": 3, "A_rest": 3}
    assert list(numbers["other_prompts"]) == ["sentences"] and len(painter.asked) == 2 + 2 * 3
    assert run(monkeypatch, CONFIG)[0]["other_prompts"] == {}


def test_a_second_judge_stands_beside_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    alone, _ = run(monkeypatch, CONFIG)
    assert list(alone["second_opinion"]) == ["clip"]
    both, _ = run(monkeypatch, CONFIG, second_judge=Blind("koala"))
    assert list(both["second_opinion"]) == ["clip", "second_judge"]
    second = both["second_opinion"]["second_judge"]
    assert second["metrics"]["A_er"] == 100.0 and second["metrics"]["A_adj"] == 25.0  # half of the bears
    assert second["base_metrics"]["A_adj"] == 50.0 and second["agreement"]["erased"]["A_rest"] == 100.0


def test_each_clip_feature_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    encode = Encoder.__call__
    monkeypatch.setattr(Encoder, "__call__", lambda self, x: counts.append(len(x)) or encode(self, x))
    run(monkeypatch, CONFIG)
    assert counts == [20, 20]  # five concepts of four pictures, by either model


def test_what_was_not_measured_is_none() -> None:
    assert measured({"a": [float("nan"), 1.0], "b": {"c": float("nan")}, "d": "x"}) == {
        "a": [None, 1.0],
        "b": {"c": None},
        "d": "x",
    }


def test_a_blank_picture_of_the_target_is_not_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, _ = run(monkeypatch, CONFIG, {("erased", "panda"): 1})
    assert numbers["metrics"]["A_er"] == 75.0
    control, _ = run(monkeypatch, CONFIG, {("erased", "rose"): 4})  # one flat concept that is no target
    assert control["metrics"]["A_er"] == 100.0 and control["metrics"]["A_heldout"] == 100.0


BLANK: dict[str, tuple[dict[tuple[str, str], int], type[Exception], str]] = {
    "half of the target's by the erased model": (
        {("erased", "panda"): 2},
        AdapterError,
        r"'a panda' by the erased model \(adapter aaaaaaaaaaaa\) are broken: 2 of 4 have one colour",
    ),
    "half of all by the erased model": (
        {("erased", name): 3 for name in ("bear", "koala", "rose", "taxi")},
        AdapterError,
        "'a bear' by the erased model .* 3 of 4 have one colour",
    ),
    "all of the target's by the original model": (
        {("base", "panda"): 4},
        BaseModelError,
        "'a panda' by the original model are broken: 4 of 4 have one colour",
    ),
}


@pytest.mark.parametrize("case", BLANK)
def test_a_model_that_draws_blank_pictures_is_no_erased_one(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank, error, sentence = BLANK[case]
    with pytest.raises(error, match=sentence) as caught:
        run(monkeypatch, CONFIG, blank)
    assert caught.value.exit_code == 1 and " Next: " in str(caught.value)  # type: ignore[attr-defined]


class Blind(Reader):
    """A judge that takes ``unknown`` for a taxi, as one of other pictures might."""

    def __init__(self, *unknown: str) -> None:
        self.unknown = [NAMES.index(name) for name in unknown]

    def __call__(self, pixels: np.ndarray) -> torch.Tensor:
        odds = super().__call__(pixels)
        odds[odds[:, self.unknown].any(1)] = torch.eye(len(NAMES))[NAMES.index("taxi")]
        return odds


@pytest.mark.parametrize(("unknown", "named"), [(("panda",), "panda"), (("bear", "koala"), "bear, koala")])
def test_a_judge_that_does_not_know_the_originals_pictures_proves_nothing(
    unknown: tuple[str, ...], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base with random weights, say, of which everything would count as erased, and as kept."""
    sentence = f"recognises 0.0 % of the original model's pictures of {named}; at least 20 % are needed"
    with pytest.raises(EvaluationError, match=sentence) as caught:
        run(monkeypatch, CONFIG, judge=Blind(*unknown))
    assert caught.value.exit_code == 1 and "data.judge" in caught.value.action
    numbers, _ = run(monkeypatch, CONFIG.model_copy(update={"base_known": 0.0}), judge=Blind(*unknown))
    assert 0.0 in (numbers["base_metrics"]["A_tar"], numbers["base_metrics"]["A_adj"])
    run(monkeypatch, CONFIG, judge=Blind("bear"))  # the control: half of the neighbours are enough
