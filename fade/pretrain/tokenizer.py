"""The tokenizers: a CLIP's and a T5's that hold the world's words whole, as real ones hold common words."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer, T5TokenizerFast

from fade.errors import DataError

_CHARACTERS = tuple(sorted(pre_tokenizers.ByteLevel.alphabet()))
"""A symbol for each byte: every text is spelled, in any script."""


@functools.cache
def _splitter() -> Tokenizer:
    ends = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    splitter: Tokenizer = CLIPTokenizer(vocab=ends, merges=[]).backend_tokenizer
    return splitter


def _split(text: str) -> list[tuple[str, str]]:
    """The words and marks of a text by CLIP's own rules, each with the symbols that stand for its bytes."""
    normal = _splitter().normalizer.normalize_str(text)
    return [(normal[a:b], symbols) for symbols, (a, b) in _splitter().pre_tokenizer.pre_tokenize_str(normal)]


def pieces(text: str) -> list[str]:
    """The words and marks into which CLIP's tokenizer splits a text before it looks into its vocabulary."""
    return [word for word, _ in _split(text)]


def build_tokenizer(words: Sequence[str], max_tokens: int, out: Path) -> None:
    """Save a CLIPTokenizer to ``out`` that holds each of ``words`` as one token and spells any other word.

    max_tokens: positions of the text tower. Byte pairs are learned on the words alone, until each is whole.
    Every byte is in the vocabulary, so that an unknown word is spelled in any script, never lost.
    Raises DataError for a word that CLIP splits, or that is not whole in the end."""
    _refuse([word for word in words if pieces(word) != [word]], "are no single lower-case words")
    symbols_of = {word: symbols for text in words for word, symbols in _split(text)}
    words = sorted(set(symbols_of.values()))
    letters = sorted({*_CHARACTERS, *"".join(words)})
    ends = [letter + "</w>" for letter in letters]
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(letters) + sum(map(len, words)),  # each letter of each word merged: no limit
        initial_alphabet=letters,
        # Else the trainer numbers last letters in a hash map's order and breaks ties by it: runs differ.
        special_tokens=ends,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(words, trainer)
    pairs = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    symbols = dict.fromkeys([*letters, *ends, *map("".join, pairs), "<|startoftext|>", "<|endoftext|>"])
    vocab = {symbol: i for i, symbol in enumerate(symbols)}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=pairs, model_max_length=max_tokens)
    broken = [word for word, own in symbols_of.items() if tokenizer.tokenize(word) != [own + "</w>"]]
    _refuse(broken, "are not one token each")
    tokenizer.save_pretrained(out)


def build_t5_tokenizer(words: Sequence[str], max_tokens: int, out: Path) -> None:
    """Save a T5 tokenizer to ``out`` that holds each of ``words`` as one token and spells any other word."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    whole = {f"▁{word}": -1.0 for word in sorted(set(words))}
    letters = dict.fromkeys(sorted({*_CHARACTERS, *"".join(words)}), -8.0)
    vocab = [*special, *whole.items(), *letters.items()]
    T5TokenizerFast(vocab=vocab, extra_ids=0, model_max_length=max_tokens).save_pretrained(out)


def _refuse(words: Sequence[str], why: str) -> None:
    if words:
        what = f"{', '.join(map(repr, words[:5]))} {why} ({len(words)} of the tokenizer's words)."
        raise DataError(what, stage="tokenizer", action="take the words of words_of.")
