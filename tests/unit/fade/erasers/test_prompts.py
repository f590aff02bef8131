"""Random words: whole ones of the tokenizer alone, never a name that the model is judged by, and a draw of
their seed."""

from __future__ import annotations

import torch

from fade.data.vocabulary import Concept, Vocabulary, fill
from fade.erasers.fade import TEMPLATES
from fade.erasers.nullspace import TARGET_TEMPLATES, retain_prompts, words_of
from fade.evaluation.indirect import indirect_prompts


class Tokenizer:
    def __init__(self, *tokens):
        self.tokens = tokens

    def get_vocab(self):
        return {token: i for i, token in enumerate(self.tokens)}


WORDS = ("red</w>", "apple</w>", "lemon</w>", "sky</w>")


def draw(seed=0, n=50, left_out=(), tokens=WORDS):
    return retain_prompts(Tokenizer(*tokens), "a {concept}", n, left_out, torch.Generator().manual_seed(seed))


def test_words_are_whole_plain_and_long_enough():
    assert words_of(
        ["red</w>", "re", "a</w>", "of</w>", "don't</w>", "7up</w>", "über</w>", "<|endoftext|>", "apple</w>"]
    ) == [
        "apple",
        "red",
    ]


def test_single_words_once_each_and_pairs():
    found = draw()
    assert sorted(found[:4]) == ["a apple", "a lemon", "a red", "a sky"]
    assert len(found) == 54 and all(len(prompt.split()) == 3 for prompt in found[4:])
    assert len(draw(n=2)) == 4


def test_a_judged_name_is_never_said():
    found = draw(left_out=("Lemon", "red apple"))
    assert not any("lemon" in prompt or prompt == "a red apple" for prompt in found)
    assert "a red apple" in draw()  # the control: it would have been


def test_the_seed_decides():
    assert draw(0) == draw(0) != draw(1)


def test_a_vocabulary_without_words_gives_none():
    assert draw(tokens=("re", "d</w>")) == []


def test_the_ways_to_say_the_target_are_not_those_that_are_judged():
    vocabulary = Vocabulary((Concept("red apple", "fruit"),), ("noto",))
    judged = {prompt.text for prompt in indirect_prompts("red apple", vocabulary)}
    assert "the red apple" in judged
    assert not judged & {fill(phrasing, "red apple") for phrasing in (*TARGET_TEMPLATES, *TEMPLATES)}
