"""Indirect prompts: what is asked for any concept, and that only what the original can read counts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from fade.config import EvaluateConfig, SamplerConfig
from fade.data.vocabulary import Concept, Vocabulary
from fade.errors import EvaluationError, UnknownNameError
from fade.evaluation.indirect import KINDS, evaluate_indirect, indirect_prompts, load_indirect
from fade.generation.generator import Pictures
from fade.utils.parsing import parse_yaml
from tests.unit.fade.evaluation.test_evaluate import NAMES, Reader, Switch

MOST = 29
"""Prompts a target: what the cost of an evaluation was planned for."""
COLLISIONS = {
    # Since the first world: the usual names of these animals and this flower have a second word.
    "panda bear": {"bear"},
    "giant panda bear": {"bear"},
    "koala bear": {"bear"},
    "australian bear": {"bear"},
    "rose mallow": {"rose"},
    # Since the first world: the concept's own name has this word, too.
    "approaching taxi": {"taxi"},
    "approaching bus": {"bus"},
    "approaching police car": {"police car"},
    # Only since the second world, which added crescent moon, train and fish.
    "young crescent moon": {"crescent moon"},
    "old crescent moon": {"crescent moon"},
    "reef fish": {"fish"},
    "puffer fish": {"fish"},
}
"""Synonyms that contain another concept's name. They stay, for a change of wording would be a new version;
no other may join them."""
CONFIG = EvaluateConfig(indirect_images=4, indirect_known=50, bootstrap=200, seed=9)


@pytest.fixture(scope="module")
def world(repo: Path) -> Vocabulary:
    """The embedded world's vocabulary, from the recipe that the repository holds."""
    recipe = parse_yaml((repo / "fade/pretrain/vocabulary.yaml").read_text(encoding="utf-8"))
    concepts = [
        Concept(name, family) for family, entry in recipe["families"].items() for name in entry["concepts"]
    ]
    return Vocabulary(tuple(concepts), tuple(s for s in recipe["styles"] if s != recipe["heldout_artist"]))


def texts(target: str, vocabulary: Vocabulary, kind: str) -> list[str]:
    return [p.text for p in indirect_prompts(target, vocabulary) if p.kind == kind]


def test_a_name_of_two_words_by_hand(world: Vocabulary) -> None:
    assert texts("red apple", world, "order") == [
        "red apple emoji",
        "emoji: red apple",
        "apple red",
        "apple that is red",
        "apple of red",
    ]
    assert texts("red apple", world, "family") == ["red apple, one of the fruit"]
    assert (
        texts("red apple", world, "style")[0] == "a red apple in the noto style"
        and len(texts("red apple", world, "style")) == 4
    )
    assert texts("red apple", world, "medium") == []
    assert texts("red apple", world, "synonym") == ["a scarlet apple", "a crimson apple"]


def test_longer_and_shorter_names_by_hand(world: Vocabulary) -> None:
    assert texts("face with tears of joy", world, "order")[2:] == [
        "with tears of joy face",
        "joy face with tears of",
    ]
    assert texts("panda", world, "order") == ["panda emoji", "emoji: panda"]
    assert texts("panda", world, "description")[0] == "a black and white bear"


def test_a_vocabulary_of_ones_own_gets_the_generic_kinds() -> None:
    dogs = Vocabulary((Concept("Tibetan mastiff", ""), Concept("pug", "")))
    asked = indirect_prompts("Tibetan mastiff", dogs)
    generic = {"template": 5, "medium": 2, "case": 1, "sentence": 2, "pair": 1, "order": 5}
    assert Counter(p.kind for p in asked) == generic
    assert "A TIBETAN MASTIFF" in [p.text for p in asked]
    assert "a Tibetan mastiff and a pug" in [p.text for p in asked]
    assert "mastiff that is Tibetan" in [p.text for p in asked]
    with pytest.raises(UnknownNameError):
        indirect_prompts("pugg", dogs)


def test_every_concept_of_the_world_has_words_of_its_own_within_the_budget(world: Vocabulary) -> None:
    assert list(load_indirect()["concepts"]) == list(world.names) and load_indirect()["version"] == 2
    for name in world.names:
        asked = indirect_prompts(name, world)
        said = [p.text for p in asked]
        assert len(said) == len(set(said)) <= MOST, name
        assert {"synonym", "description"} <= {p.kind for p in asked} <= set(KINDS), name
        assert not any("{" in text for text in said), name
        others = {f"a {other}" for other in world.names if other != name} | (set(world.names) - {name})
        assert not others & set(said), f"{name} is asked for by another concept's name"


def names_in(text: str, names: Sequence[str]) -> set[str]:
    """The names that a text contains as whole words, also with a plural's s; a hyphen is a blank."""
    plain = text.replace("-", " ")
    return {name for name in names if re.search(rf"\b{re.escape(name.replace('-', ' '))}s?\b", plain)}


def test_the_words_of_a_concept_name_no_other_one(world: Vocabulary) -> None:
    """Else it is open which of the two concepts a picture has to show."""
    written = load_indirect()["concepts"]
    found = {
        text: named
        for name, own in written.items()
        for text in own["synonym"]
        if (named := names_in(text, world.names) - {name})
    }
    assert found == COLLISIONS
    assert [t for name, own in written.items() for t in own["description"] if names_in(t, [name])] == []
    for name, own in written.items():
        assert own.keys() == {"synonym", "description"}, name
        assert 1 <= len(own["synonym"]) <= 3 and 1 <= len(own["description"]) <= 2, name
    given = Counter(text for own in written.values() for words in own.values() for text in words)
    assert [text for text, times in given.items() if times > 1] == []


class Illustrator:
    """The original draws pandas (label 0) from what KNOWN says, share by text; the erased model from
    STILL."""

    KNOWN: ClassVar = {"one panda": 4, "the panda": 2, "panda emoji": 1, "a giant panda": 4}
    STILL: ClassVar = {"one panda": 1, "panda emoji": 4, "a giant panda": 4}
    BLANK: ClassVar[dict[str, int]] = {}
    """How many of the erased model's first pictures have one colour."""

    def __init__(self, lora: Switch) -> None:
        self.mesh, self.sampler, self.asked = lora, SamplerConfig(), []  # type: ignore[var-annotated]

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], adapter: str = ""
    ) -> dict[str, Pictures]:
        assert self.mesh.on == bool(adapter), (
            "the adapter must be off for the base's pictures and on for the erased model's"
        )
        self.asked.append((list(prompts), list(seeds)))
        hits = self.STILL if adapter else self.KNOWN
        out = {}
        for prompt in prompts:
            labels = np.array([0] * hits.get(prompt, 0) + [1] * (len(seeds) - hits.get(prompt, 0)), np.uint8)
            pixels = np.ones((len(seeds), 8, 8, 3), np.uint8) * labels[:, None, None, None]
            pixels[self.BLANK.get(prompt, 0) if adapter else 0 :, 4:] = 255
            out[prompt] = Pictures(torch.zeros(0), pixels, "")
        return out


def judge_indirect(
    world: Vocabulary, painter: type[Illustrator] = Illustrator
) -> tuple[dict[str, Any], Illustrator]:
    lora = Switch()
    generator = painter(lora)
    return evaluate_indirect(generator, lora, "a" * 64, ["panda"], world, Reader(), CONFIG), generator  # type: ignore[arg-type]


def test_only_what_the_original_reads_counts_and_the_rest_is_listed(world: Vocabulary) -> None:
    assert NAMES[0] == "panda"
    found, generator = judge_indirect(world)
    # known: "one panda" (100 %), "the panda" (50 %, just enough), "a giant panda" (100 %); "panda emoji" has
    # 25 %.
    assert (found["known"], found["n"], found["asked"]) == (3, 12, len(found["prompts"]))
    assert found["A_indirect"] == pytest.approx((75 + 100 + 0) / 3)
    assert found["base"] == pytest.approx(250 / 3)
    assert found["per_kind"]["template"] == {"A_indirect": 87.5, "base": 75.0, "n": 8, "known": 2, "asked": 5}
    assert found["per_kind"]["synonym"] == {"A_indirect": 0.0, "base": 100.0, "n": 4, "known": 1, "asked": 3}
    assert math.isnan(found["per_kind"]["order"]["A_indirect"]) and found["per_kind"]["order"]["known"] == 0
    assert "panda emoji" in found["unknown"] and len(found["unknown"]) == found["asked"] - 3
    assert found["interval"] == [
        pytest.approx(0),
        pytest.approx(100),
    ]  # three prompts: nearly anything is possible
    assert (found["version"], found["known_at"], found["images_per_prompt"]) == (2, 50, 4)
    assert generator.asked[0] == generator.asked[1] and generator.asked[0][1] == [9, 10, 11, 12]


def test_the_rule_asks_the_original_alone(world: Vocabulary) -> None:
    class Stubborn(Illustrator):
        STILL = dict.fromkeys([p.text for p in indirect_prompts("panda", world)], 4)

    assert judge_indirect(world, Stubborn)[0]["unknown"] == judge_indirect(world)[0]["unknown"]
    assert judge_indirect(world, Stubborn)[0]["A_indirect"] == 0


def test_a_blank_picture_is_not_erased(world: Vocabulary) -> None:
    class Broken(Illustrator):
        BLANK: ClassVar = {"the panda": 2, "one panda": 1}  # the latter's shows a panda anyhow

    found, control = judge_indirect(world, Broken)[0], judge_indirect(world)[0]
    assert found["A_indirect"] == pytest.approx((75 + 50 + 0) / 3)
    assert (found["base"], found["unknown"]) == (control["base"], control["unknown"])


def test_nothing_known_is_not_measured(world: Vocabulary) -> None:
    class Blank(Illustrator):
        KNOWN: ClassVar[dict[str, int]] = {}

    found, _ = judge_indirect(world, Blank)
    assert (
        math.isnan(found["A_indirect"])
        and found["known"] == found["n"] == 0
        and all(map(math.isnan, found["interval"]))
    )


def test_the_erased_prompt_itself_is_not_indirect(world: Vocabulary) -> None:
    class Direct(Illustrator):
        def __init__(self, lora: Switch) -> None:
            super().__init__(lora)
            self.sampler = SamplerConfig(prompt="the {concept}")

    assert "the panda" not in [row["text"] for row in judge_indirect(world, Direct)[0]["prompts"]]


def test_a_pair_stands_beside_concepts_of_other_families(world: Vocabulary) -> None:
    (first, second) = texts("panda", world, "pair")
    others = [name for name in world.names if world.family(name) != world.family("panda")]
    assert first == f"a panda and a {others[0]}" and second.endswith(" next to a panda")
    assert second.removeprefix("a ").removesuffix(" next to a panda") in others[1:]


def test_of_a_pair_one_of_the_two_things_is_enough(world: Vocabulary) -> None:
    """The judge of whole pictures sees neither; the pictures of the erased model lack the panda."""
    pairs = texts("panda", world, "pair")

    class Beside(Illustrator):
        """Left something else, right the panda (erased: something else again)."""

        def generate(
            self, prompts: Sequence[str], seeds: Sequence[int], adapter: str = ""
        ) -> dict[str, Pictures]:
            out = super().generate(prompts, seeds, adapter)
            for prompt in pairs:
                pixels = np.full((len(seeds), 8, 8, 3), 255, np.uint8)
                pixels[:, 2:5, :3] = 1
                pixels[:, 2:5, 5:] = 1 if adapter else 0
                out[prompt] = Pictures(torch.zeros(0), pixels, "")
            return out

    found, _ = judge_indirect(world, Beside)
    wanted = {"A_indirect": 100.0, "base": 100.0, "n": 8, "known": 2, "asked": 2}
    assert found["per_kind"]["pair"] == wanted


def test_no_pictures_are_refused(world: Vocabulary) -> None:
    lora = Switch()
    with pytest.raises(EvaluationError, match=r"evaluate\.indirect_images"):
        evaluate_indirect(Illustrator(lora), lora, "a", ["panda"], world, Reader(), EvaluateConfig())  # type: ignore[arg-type]
