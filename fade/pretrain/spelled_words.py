"""A text tower learns to read past a word that its tokenizer spells. Ours.

A tower of these few captions reads past the common words of a sentence: a name's state behind one is that of
the bare name (cosine 0.99). Behind a word of several pieces it was not (0.83 to 0.91; the end mark's 0.67 to
0.76), and a denoiser drew something else. So the finished tower teaches a copy of itself: with spelled words
in a caption the copy shall give the states that the tower gives with known ones in their place, as many
tokens."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fade.config import FitConfig
from fade.judges.supervised_loop import Logs, Training, fit
from fade.models.text import token_ids
from fade.pretrain.captions import COMMON_WORDS, invented
from fade.pretrain.text import CPU, name_spans, spelled_by

MOST_WORDS = 2
"""Put into one caption."""


def with_words(
    row: Sequence[int], names: Sequence[int], tokenizer: Any, known: Sequence[int], rng: random.Random
) -> tuple[list[int], list[int]]:
    """A caption's token ids (T,), padded, twice: with up to MOST_WORDS invented words, and with known ones of
    as many tokens in their places. A word stands before a name, or at an end of the caption.

    names: the places of the names' first tokens."""
    size, padding = len(row), tokenizer.pad_token_id
    start = int(row[0] == tokenizer.bos_token_id)  # a T5 has no begin mark
    end = row.index(tokenizer.eos_token_id)
    spelled, plain = list(row[: end + 1]), list(row[: end + 1])
    places = sorted(
        (rng.choice([start, end, *names, *names]) for _ in range(rng.randint(0, MOST_WORDS))), reverse=True
    )
    for place in places:  # from the end, so that earlier places stay
        word = tokenizer(invented(rng), add_special_tokens=False)["input_ids"]
        if len(spelled) + len(word) <= size:
            spelled[place:place] = word
            plain[place:place] = rng.choices(known, k=len(word))
    filling = [padding] * (size - len(spelled))
    return spelled + filling, plain + filling


def train(tower: Any, tokenizer: Any, pictures: Any, config: FitConfig, training: Training) -> None:
    """Train a text tower in place on captions of ``pictures`` (`fade.pretrain.scenes.SceneSampler`):
    mean squared error between its states with spelled words and the first tower's with known ones."""
    teacher = copy.deepcopy(tower).eval().requires_grad_(False)
    tower.requires_grad_(True).train()
    known = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in COMMON_WORDS]
    forms = spelled_by(tokenizer)

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        scenes, captions = pictures.captions(config.batch_size, generator)
        ids = token_ids(tokenizer, captions, CPU)
        spans = name_spans(ids, forms, scenes)
        rng = random.Random(int(torch.randint(2**62, (1,), generator=generator)))
        names: list[list[int]] = [[] for _ in captions]
        for span in spans:
            names[span.row].append(span.first)
        rows = [
            with_words(row, first, tokenizer, known, rng)
            for row, first in zip(ids.tolist(), names, strict=True)
        ]
        spelled, plain = (torch.tensor(each) for each in zip(*rows, strict=True))
        with torch.no_grad():
            goal = teacher(input_ids=plain).last_hidden_state
        return F.mse_loss(tower(input_ids=spelled).last_hidden_state, goal), {}

    fit(tower, loss_at, config, training)
