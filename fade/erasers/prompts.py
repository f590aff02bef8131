"""Prompts that stand for language at large: words of the tokenizer's own vocabulary, alone and in pairs.
Ours."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from fade.data.vocabulary import fill

if TYPE_CHECKING:
    import torch

END = "</w>"
"""What ends a word in the vocabulary of CLIP's tokenizer."""
SHORTEST = 3
TARGET_TEMPLATES = ("{concept}", "a picture of a {concept}", "two {concept}")
"""Ways to say the target, beside the prompt's own. None of them is an indirect prompt that is judged."""


def words_of(vocabulary: Iterable[str]) -> list[str]:
    """Whole words of a byte-pair vocabulary, sorted: three ASCII letters or more."""
    words = (token.removesuffix(END) for token in vocabulary if token.endswith(END))
    return sorted(word for word in words if len(word) >= SHORTEST and word.isascii() and word.isalpha())


def retain_prompts(
    tokenizer: Any, prompt: str, n: int, left_out: Collection[str], generator: torch.Generator
) -> list[str]:
    """Up to ``n`` words and ``n`` pairs of words in the template ``prompt``, drawn by ``generator``.

    left_out: names (any case) that none of them may be; fewer than ``n`` words are there when the vocabulary
    is small."""
    import torch

    names = {name.lower() for name in left_out}
    words = [word for word in words_of(tokenizer.get_vocab()) if word not in names]
    if not words:
        return []
    order = torch.randperm(len(words), generator=generator).tolist()
    single = [words[i] for i in order[:n]]
    pairs = [
        f"{words[i]} {words[j]}" for i, j in torch.randint(len(words), (n, 2), generator=generator).tolist()
    ]
    return [fill(prompt, phrase) for phrase in (*single, *pairs) if phrase not in names]
