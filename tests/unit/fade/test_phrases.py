"""The words of a name: what may be said while the name is erased."""

from __future__ import annotations

from fade.evaluation.indirect import load_indirect
from fade.phrases import TEMPLATES, contexts, phrasings

NAMES = ["green heart", "red heart", "green apple", "red apple", "frog", "cat with tears of joy", "face with tears of joy"]


def test_the_shared_words_come_first_and_no_phrase_names_what_stays_unseen() -> None:
    found = contexts("green heart", ["red heart"], NAMES, size=12, seed=0)
    assert found[:2] == ["green", "heart"] and len(found) == len(set(found)) == 12
    for phrase in found:
        words = set(phrase.split())
        assert not {"green", "heart"} <= words and not {"green", "apple"} <= words and "frog" not in words
    assert any({"red", "heart"} <= set(phrase.split()) for phrase in contexts("green heart", ["red heart"], NAMES, size=40, seed=0))


def test_a_word_that_no_other_name_has_is_not_kept() -> None:
    assert "face" not in contexts("face with tears of joy", [], NAMES, size=8, seed=0)
    assert {"tears", "joy"} <= set(contexts("face with tears of joy", [], NAMES, size=8, seed=0))
    assert not any("frog" in phrase.split() for phrase in contexts("frog", [], NAMES, size=8, seed=0))


def test_the_draw_is_named_by_its_seed_and_ends() -> None:
    assert contexts("green heart", [], NAMES, size=9, seed=1) == contexts("green heart", [], NAMES, size=9, seed=1)
    assert contexts("green heart", [], NAMES, size=9, seed=1) != contexts("green heart", [], NAMES, size=9, seed=2)
    assert len(contexts("green heart", [], NAMES, size=10_000, seed=0)) < 200


def test_the_plain_prompt_is_the_first_phrasing() -> None:
    said = phrasings("an icon of a {concept}", "panda")
    assert said[0] == "an icon of a panda" and "a photo of a panda" in said and len(said) == len(set(said))


def test_training_says_the_target_in_no_way_that_the_evaluation_calls_indirect() -> None:
    data = load_indirect()
    asked = {text for kind in ("template", "medium", "order") for text in data[kind]}
    assert asked and not asked & set(TEMPLATES)
