"""Sentences and pairs: what must stay under other prompts, on pictures whose answer is known by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from fade.config import EvaluateConfig
from fade.errors import BaseModelError
from fade.evaluation.other_prompts import evaluate_other_prompts
from fade.generation.generator import Pictures
from tests.unit.fade.evaluation.support import Switch

COLOURS = {"panda": (200, 0, 0), "tulip": (0, 0, 200), "bear": (0, 200, 0)}
LABELS = [*COLOURS, "nothing"]
CONFIG = EvaluateConfig(
    seed=9,
    bootstrap=50,
    prompt_images=2,
    sentences=("see the {concept}", "one {concept}"),
    pairs=("a {first} and a {second}",),
)
GROUPS = {"A_adj": ["bear"], "A_heldout": [], "A_rest": ["tulip"]}
Shows = Callable[[list[str], str], list[str]]
"""(names in a prompt, adapter) -> what is drawn, one thing or two."""


class Illustrator:
    """Draws one square, or two side by side."""

    def __init__(self, lora: Switch, shows: Shows) -> None:
        self.lora, self.shows = lora, shows
        self.calls: list[tuple[str, list[str], list[int]]] = []

    def generate(self, prompts: Sequence[str], seeds: Sequence[int], adapter: str) -> dict[str, Pictures]:
        assert self.lora.on == bool(adapter)
        self.calls.append((adapter, [*prompts], [*seeds]))
        return {
            prompt: Pictures(torch.zeros(0), self._draw(prompt, len(seeds), adapter), "")
            for prompt in prompts
        }

    def _draw(self, prompt: str, n: int, adapter: str) -> np.ndarray:
        things = self.shows(re.findall("panda|tulip|bear", prompt), adapter)
        picture = np.full((64, 64, 3), 255, np.uint8)
        for i, thing in enumerate(things):
            left = 20 if len(things) == 1 else 4 + 34 * i
            picture[20:40, left : left + 22] = COLOURS.get(thing, (90, 90, 90))
        return np.stack([picture] * n)


class Reader:
    """Reads the colour in the middle."""

    def index(self, name: str) -> int:
        return LABELS.index(name)

    def __call__(self, pixels: np.ndarray) -> torch.Tensor:
        middle = [tuple(int(level) for level in one[32, 32]) for one in pixels]
        names = {colour: name for name, colour in COLOURS.items()}
        return torch.eye(len(LABELS))[[LABELS.index(names.get(one, "nothing")) for one in middle]]


def judged(shows: Shows, config: EvaluateConfig = CONFIG) -> tuple[dict, Illustrator]:  # type: ignore[type-arg]
    lora = Switch()
    generator = Illustrator(lora, shows)
    what = (generator, lora, "a" * 64, ["panda"], GROUPS, Reader(), config)
    return evaluate_other_prompts(*what), generator  # type: ignore[arg-type]


def erased(names: list[str], adapter: str) -> list[str]:
    """The erased model draws no panda, and takes the bear with it where both are named."""
    gone = {"panda", *(["bear"] if "panda" in names else [])} if adapter else set()
    return [f"no {name}" if name in gone else name for name in names]


def test_a_tulip_is_kept_where_panda_is_erased_and_a_bear_is_not() -> None:
    found, generator = judged(erased)
    assert found["sentences"]["metrics"] == {"A_adj": 100.0, "A_rest": 100.0}
    assert found["sentences"]["n"] == {"A_adj": 4, "A_rest": 4} and found["sentences"]["reason"] == ""
    pairs = found["pairs"]
    assert pairs["base_metrics"] == {"A_adj": 100.0, "A_tar": 100.0, "A_rest": 100.0}
    assert pairs["metrics"] == {"A_er": 100.0, "A_adj": 0.0, "A_rest": 100.0}
    assert pairs["n"] == {"A_adj": 2, "A_tar": 4, "A_rest": 2}
    assert pairs["intervals"]["A_rest"] == [100.0, 100.0]
    assert [seeds for _, _, seeds in generator.calls] == [[9, 10], [11, 12]] * 2 + [[9, 10]] * 2
    assert generator.calls[-1][1] == ["a panda and a bear", "a panda and a tulip"]


def test_a_kind_that_the_original_does_not_read_has_a_reason_and_no_number() -> None:
    found, generator = judged(lambda names, adapter: names if len(names) == 1 else ["nothing"])
    assert found["pairs"]["metrics"] == {} and found["pairs"]["base_metrics"]["A_rest"] == 0.0
    assert "recognises 0.0 % of the original model's pictures of pairs" in found["pairs"]["reason"]
    assert found["sentences"]["metrics"]["A_rest"] == 100.0  # the control
    assert [adapter for adapter, texts, _ in generator.calls if " and " in texts[0]] == [""]


def test_the_target_that_the_original_leaves_out_of_pairs_is_not_called_erased() -> None:
    found, _ = judged(lambda names, adapter: [name for name in names if name != "panda" or len(names) == 1])
    assert found["pairs"]["metrics"] == {"A_adj": 100.0, "A_rest": 100.0}
    assert found["pairs"]["base_metrics"]["A_tar"] == 0.0


def test_pictures_of_one_colour_by_the_original_are_a_reason_and_by_the_erased_no_erasure() -> None:
    def refuse(names: list[str], adapter: str) -> list[str]:
        raise BaseModelError("the pictures are broken.", stage="generate", action="look.")

    assert judged(refuse)[0]["pairs"]["reason"] == "the pictures are broken"
    blank, _ = judged(lambda names, adapter: [] if adapter and len(names) > 1 else names)
    assert blank["pairs"]["metrics"] == {"A_er": 0.0, "A_adj": 0.0, "A_rest": 0.0}


@pytest.mark.parametrize("changes", [{"prompt_images": 0}, {"sentences": (), "pairs": ()}])
def test_nothing_is_drawn_where_nothing_is_asked_for(changes: dict[str, object]) -> None:
    found, generator = judged(erased, CONFIG.model_copy(update=changes))
    assert found == {} and generator.calls == []


@pytest.mark.parametrize(
    ("key", "template"),
    [
        ("sentences", "see a panda"),
        ("pairs", "a {first}"),
        ("pairs", "{first} {second:9}"),
        ("sentences", "{"),
    ],
)
def test_a_template_without_its_slots_is_refused(key: str, template: str) -> None:
    with pytest.raises(ValueError, match=r"slot|stray brace"):
        EvaluateConfig(**{key: (template,)})
