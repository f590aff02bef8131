"""What a concept's name says beside the concept: other ways to ask for it, and prompts that share its words without naming it.

Ours. "green heart" is a heart and is green: an eraser that only sees other hearts kept learns that *green* is what must go,
and the green apple goes too. The prompts here keep the words of a name while the name itself is erased. None of them names
a concept that is judged as held out or as the rest: these stay unseen by training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fade.concepts import fill

TEMPLATES = ("{concept}", "a {concept}", "a picture of a {concept}", "a photo of a {concept}", "a drawing of a {concept}")
"""Ways to ask for a concept that training may use; the indirect prompts of the evaluation are others."""
JOINING = frozenset({"a", "an", "and", "in", "of", "on", "the", "with"})
"""Words that say nothing by themselves."""


def phrasings(template: str, concept: str) -> list[str]:
    """The concept's prompt by the evaluation's template, then by the others of TEMPLATES."""
    return list(dict.fromkeys(fill(t, concept) for t in (template, *TEMPLATES)))


def contexts(target: str, neighbours: Sequence[str], names: Sequence[str], *, size: int, seed: int) -> list[str]:
    """Up to ``size`` phrases that share words with the target's name or with other names, and name no concept.

    First the target's words that other names share, each by itself; then, half and half, the target with one word exchanged
    and pairs of words. A phrase that contains all words of the target, or of any concept but the neighbours, is left out, so
    that the held-out concepts stay held out. Words come from ``names``; the draw is named by ``seed``.
    """
    own = _words(target)
    others = sorted({word for name in names if name != target for word in _words(name)})
    forbidden = [set(_words(name)) for name in names if name not in set(neighbours)]

    def allowed(phrase: str) -> bool:
        spoken = set(_words(phrase))
        return not any(name <= spoken for name in forbidden)

    rng = np.random.default_rng(seed)
    out = [word for word in own if word in others]
    drawn = 0
    while len(set(out)) < size and drawn < 50 * size:  # a small vocabulary may not hold so many
        drawn += 1
        pair = [str(word) for word in rng.choice(others, 2, replace=len(others) < 2)]
        if drawn % 2 and len(own) > 1:
            pair = [*own]
            pair[int(rng.integers(len(own)))] = str(rng.choice(others))
        out.append(" ".join(pair))
        out = [phrase for phrase in dict.fromkeys(out) if allowed(phrase)]
    return out[:size]


def _words(name: str) -> list[str]:
    return [word for word in name.lower().split() if word not in JOINING]
