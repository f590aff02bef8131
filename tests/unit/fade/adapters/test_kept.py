"""What must stay: a seeded split that no champion can see the measured side of."""

from __future__ import annotations

from typing import Any

from fade.adapters.kept import KeptConcepts, kept_prompts, target_prompts
from fade.config import ReleaseConfig
from fade.config.evaluation import EvaluateConfig
from fade.data.vocabulary import Concept, Vocabulary, fill
from fade.evaluation.indirect import indirect_prompts
from tests.support import tiny_tokenizer

NAMES = tuple(f"thing {i}" for i in range(60))
CONFIG = ReleaseConfig(words=6)


def split(erased: Any = (), neighbours: Any = (), **changes: Any) -> KeptConcepts:
    return KeptConcepts.of(NAMES, erased, neighbours, CONFIG.model_copy(update=changes))


def test_a_third_is_measured_and_the_rest_used_in_vocabulary_order() -> None:
    found = split()
    assert len(found.measured) == 20 and len(found.used) == 40 and found.trained == ()
    assert {*found.used} | {*found.measured} == {*NAMES} and not {*found.used} & {*found.measured}
    assert list(found.measured) == [name for name in NAMES if name in found.measured]
    assert split(seed=1).measured != found.measured and split(measured_one_in=6).measured != found.measured


def test_a_concept_stays_on_its_side_when_champions_come_and_go() -> None:
    before = split()
    erased = [*before.measured[:2], *before.used[:5]]
    after = split(erased=erased)
    assert {*after.measured} == {*before.measured} - {*erased} and {*after.used} == {*before.used} - {*erased}
    shuffled = KeptConcepts.of(NAMES[::-1], (), (), CONFIG)
    assert {*shuffled.measured} == {*before.measured}


def test_what_a_champion_was_trained_on_is_not_measured_as_if_nobody_had() -> None:
    before = split()
    near = before.measured[0]
    found = split(neighbours=[near, before.used[0]])
    assert found.trained == (near,) and near in found.used and near not in found.measured
    assert [found.group(name) for name in (near, before.used[0], before.measured[1], "gone")] == [
        "trained",
        "used",
        "measured",
        "erased",
    ]
    assert KeptConcepts.from_json(found.to_json()) == found


def test_a_name_within_a_longer_one_is_on_its_side() -> None:
    """The prompt "a oncoming taxi" names the taxi, too."""
    names = [f"{kind} {i}" for i in range(20) for kind in ("taxi", "oncoming taxi")]

    def named(kept: KeptConcepts) -> list[str]:
        return [one for one in kept.measured for name in kept.used if f" {one} " in f" {name} "]

    found = KeptConcepts.of(names, (), (), CONFIG)
    short = [name for name in found.measured if name.startswith("taxi")]
    assert short and {f"oncoming {name}" for name in short} <= {*found.measured} and named(found) == []
    kept = KeptConcepts.of(names, (), [f"oncoming {short[0]}"], CONFIG)
    assert kept.trained == (short[0], f"oncoming {short[0]}") and named(kept) == []
    assert {*kept.measured} == {*found.measured} - {*kept.trained}


def test_no_prompt_names_a_measured_or_an_erased_concept() -> None:
    names = ("panda", "koala", "bear", "tiger", "lion", "cat", "dog", "wolf", "tulip", "rose")
    kept = KeptConcepts.of(names, ["panda"], ["koala"], CONFIG)
    tokenizer = tiny_tokenizer()
    sides = kept_prompts(
        kept, ["panda"], {"koala"}, tokenizer, CONFIG, prompt="a {concept}", negative_prompt="blurred"
    )
    assert list(sides) == ["null", "neighbours", "concepts", "language"]
    assert sides["null"] == ["", "blurred"]
    assert sides["neighbours"] == target_prompts(["koala"], "a {concept}", CONFIG)
    words = {word for prompts in sides.values() for prompt in prompts for word in prompt.split()}
    assert kept.measured and not words & {"panda", *kept.measured}
    assert set(kept.used) <= words  # the control: the used ones are named
    without = kept_prompts(kept, ["panda"], (), tokenizer, ReleaseConfig(words=0), prompt="a {concept}")
    assert list(without) == ["null", "concepts"]


def test_a_target_is_named_in_several_ways_the_pictures_prompt_first_and_none_twice() -> None:
    prompts = target_prompts(["panda"], "two {concept}", CONFIG)
    assert prompts == ["two panda", "panda", "a picture of a panda"]


def test_no_way_to_name_a_target_is_a_prompt_that_is_judged() -> None:
    vocabulary = Vocabulary((Concept("red apple", "fruit"),), ("noto",))
    judged = {one.text for one in indirect_prompts("red apple", vocabulary)}
    judged |= {fill(sentence, "red apple") for sentence in EvaluateConfig().sentences}
    assert not judged & {*target_prompts(["red apple"], "a {concept}", CONFIG)} and len(judged) > 5
