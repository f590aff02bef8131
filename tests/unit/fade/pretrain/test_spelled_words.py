"""A text tower learns that spelled words leave a caption's meaning as it is."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from fade.config import FitConfig, TextConfig
from fade.judges.supervised_loop import Training
from fade.models.text import token_ids
from fade.pretrain import spelled_words, text
from tests.unit.fade.pretrain.support import sampler, tokenizer

TOWER = TextConfig(steps=1, batch_size=1, lr=0.1, hidden=32, layers=1, heads=2, activation="gelu")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tokenizer(tmp_path_factory.mktemp("words"))


def twice(words: Any, caption: str, names: list[int], n: int = 200) -> list[tuple[list[int], list[int]]]:
    """The caption with words many times."""
    row, rng = token_ids(words, [caption], text.CPU)[0].tolist(), random.Random(0)
    known = [words("the", add_special_tokens=False)["input_ids"][0]]
    return [spelled_words.with_words(row, names, words, known, rng) for _ in range(n)]


def test_both_have_the_caption_around_as_many_tokens_in_the_same_places(words: Any) -> None:
    row = token_ids(words, ["a red ball"], text.CPU)[0].tolist()
    the = words("the", add_special_tokens=False)["input_ids"][0]
    content = row[: row.index(words.eos_token_id) + 1]
    different = set()
    for spelled, plain in twice(words, "a red ball", names=[2]):
        assert len(spelled) == len(plain) == len(row)
        places = [i for i, token in enumerate(plain) if token == the]
        assert [t for i, t in enumerate(plain) if i not in places][: len(content)] == content
        assert [t for i, t in enumerate(spelled) if i not in places][: len(content)] == content
        assert all(spelled[i] == plain[i] for i in range(len(row)) if i not in places)
        different |= set(places)
    assert {1, 2, 4} <= different  # before the caption, before the name, behind it
    assert not any(plain[3] == the and plain[2] == content[2] for _, plain in twice(words, "a red ball", [2]))


def test_a_full_caption_stays_as_it_is(words: Any) -> None:
    full = " ".join(["ball"] * (words.model_max_length - 2))
    row = token_ids(words, [full], text.CPU)[0].tolist()
    assert all(each == (row, row) for each in twice(words, full, [1], n=20))


def test_before_a_caption_without_a_begin_mark_stands_nothing(words: Any) -> None:
    row = token_ids(words, ["a red ball"], text.CPU)[0].tolist()
    of_t5 = [*row[1:], words.pad_token_id]
    the, rng = words("the", add_special_tokens=False)["input_ids"][0], random.Random(0)
    plain = [spelled_words.with_words(of_t5, [1], words, [the], rng)[1] for _ in range(100)]
    assert any(tokens[0] == the for tokens in plain)


def test_behind_spelled_words_a_trained_tower_gives_the_states_of_known_ones(
    words: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    tower: Any = text.build_clip(TOWER, words)
    first = {name: weight.clone() for name, weight in tower.state_dict().items()}
    pairs = twice(words, "a red ball", [2])
    spelled, plain = (torch.tensor(each) for each in zip(*pairs, strict=True))
    with torch.no_grad():
        goal = tower(input_ids=plain).last_hidden_state

    def error(ids: torch.Tensor) -> float:
        with torch.no_grad():
            return float((tower(input_ids=ids).last_hidden_state - goal).square().mean())

    before = error(spelled)
    fit = FitConfig(steps=60, batch_size=16, lr=5e-3, ema=0.5)
    spelled_words.train(tower, words, sampler(), fit, Training(tmp_path, 0))
    assert error(spelled) < 0.9 * before and error(plain) < 0.9 * before
    assert any(not torch.equal(weight, first[name]) for name, weight in tower.state_dict().items())
    assert not any(parameter.requires_grad for parameter in tower.parameters())
