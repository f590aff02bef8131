"""What the drawings are called: templates, styles and the tokenizer that spells them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from fade.data.vocabulary import fill

TEMPLATES = (
    "a {concept}",
    "a {concept}",
    "a picture of a {concept}",
    "a drawing of a {concept}",
    "a photo of a {concept}",
    "an emoji of a {concept}",
    "a small {concept}",
    "{concept}",
)
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~"


def caption(name: str, style: str | None, generator: torch.Generator) -> str:
    """One caption by a random template, with the style when there is one."""
    pick = int(torch.randint(0, len(TEMPLATES), (1,), generator=generator))
    return fill(TEMPLATES[pick], name, style)


def build_tokenizer(corpus: Sequence[str], merges: int, max_tokens: int, out: Path) -> None:
    """Learn byte pairs on ``corpus`` and save a CLIPTokenizer of ``max_tokens`` positions to ``out``.

    Every printable ASCII character is in the vocabulary, so that an unknown word is spelled, never lost."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(_CHARACTERS) + merges,
        initial_alphabet=list(_CHARACTERS),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator([line.lower() for line in corpus], trainer)
    pairs = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    words = [*_CHARACTERS, *(c + "</w>" for c in _CHARACTERS), *(a + b for a, b in pairs)]
    symbols = dict.fromkeys([*words, "<|startoftext|>", "<|endoftext|>"])
    vocab = {symbol: i for i, symbol in enumerate(symbols)}
    CLIPTokenizer(vocab=vocab, merges=pairs, model_max_length=max_tokens).save_pretrained(out)
