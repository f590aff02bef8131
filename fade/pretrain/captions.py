"""What the pictures are called: the grammar of captions, English plurals and articles."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fade.config.evaluation import SENTENCES as SENTENCES_OF_EVALUATION
from fade.pretrain.tokenizer import pieces

MAX_TOKENS = 28
"""Tokens of the longest caption with its two end marks, when every word of it is one token."""

PLAIN_SHARE = 0.5
"""Share of the captions of one full-sized thing that are a PLAIN template: what prompts mostly are."""

PLAIN = (
    "{a}",
    "{a}",
    "a {concept}",  # the pipeline's own prompt, which says "a octopus"
    "{concept}",
    "the {concept}",
    "a picture of {a}",
    "a drawing of {a}",
    "a photo of {a}",
    "an emoji of {a}",
    "a painting of {a}",
)
SENTENCES = (
    "my favourite {concept}",
    "{this_is} {a}",
    "there {is_are} {a} here",
    "look at the {concept} in this picture",
    "{a} that i saw today",
    "{adjective_a}",
    "{adjective_a}",
    "a picture of {adjective_a}",
    "the {adjective} {concept}",
    "{concept}, please",
    "can you draw {a} for me",
    "please draw {a}",
    "i like this {concept}",
    "here {is_are} {a} for you",
    "{a} in the {word}",
    "{a} for my {word}",
    "we {word} the {concept}",
    "{words} {a}",
    "{words} {a}",
    "{words} the {concept}",
    "{a} {words}",
    "{a} {words}",
    "{words} {a} {words}",
    "{words} {a} {words}",
    "{words} the {concept} {words}",
)
"""Captions of one thing around its name. {word}: one that means nothing for the picture, {words}: up to
MOST_WORDS of them, each another."""
MOST_WORDS = 5
INVENTED_SHARE = 0.15
"""Share of those words that are invented, so that the letters and word pieces of which the tokenizer spells
an unknown word are trained too; the others are LINKS and COMMON_WORDS."""
COMMON_WORDS = tuple((Path(__file__).parent / "common_words.txt").read_text(encoding="utf-8").split())
"""2,000 English words: the most frequent of MiniLM's vocabulary (Apache-2.0) that are in no drawing's name,
no style and no template of a size, place, number or relation."""
LINKS = ("a", "and", "at", "by", "for", "i", "in", "is", "my", "of", "on", "over", "the", "to", "with")
LINK_SHARE = 0.35
"""Share of those words that are LINKS. Sentences about one thing must have them, too: "to" and "and" were in
captions of two things alone at first, and "i would like to see a panda" gave two."""
FRAMES = (
    *("{a}",) * 5,
    "a picture of {a}",
    "a drawing of {a}",
    "a photo of {a}",
    "an emoji of {a}",
    "there {is_are} {a}",
    "look at {a}",
    "can you draw {a} for me",
    "{words} {a}",
    "{a} {words}",
    "{words} {a} {words}",
)
"""Captions around things of a size, place or number, and around several things."""
HELDOUT_TEMPLATES = (
    *SENTENCES_OF_EVALUATION,
    "a {concept} in a park",
    "could somebody show us one {concept}",
    "the story is about a {concept} and its friends",
)
"""Sentences that no training has: with them a name within an unknown sentence is measured."""

# Adjectives without meaning for the picture
ADJECTIVES = ("nice", "cute", "lovely", "funny", "pretty", "beautiful", "great", "simple")
SIZES = {"small": ("small", "tiny", "little"), "big": ("big", "large", "huge")}
POSITIONS = {
    "left": ("on the left", "on the left side"),
    "right": ("on the right", "on the right side"),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
    "corner": ("in the corner",),
}
COUNTS = {2: ("two {many}", "two {many}", "a pair of {many}"), 3: ("three {many}",)}
RELATIONS = {
    "and": ("{a} and {b}", "{a} and {b}", "{x} and {y}", "{a} with {b}"),
    "next to": ("{a} next to {b}", "{a} beside {b}"),
    "left of": ("{a} to the left of {b}",),
    "right of": ("{a} to the right of {b}",),
    "above": ("{a} above {b}", "{a} over {b}"),
    "under": ("{a} under {b}", "{a} below {b}"),
    "in front of": ("{a} in front of {b}",),
}
"""Relation of the first of two things to the second -> its words. "and": the first is left of the second, so
that order means place."""
TRIPLE = "{a}, {b} and {c}"
STYLED = (*("{a} in the {style} style",) * 3, "{a} drawn by {style}")
# The frame that names the style itself, and its share of the captions that name one
EMOJI_OF, EMOJI_SHARE = "{style} emoji of {a}", 0.2
_CLAUSES = ("this is", "these are", "there is", "there are", "here is", "here are", "a an")
"""What the slots {this_is}, {is_are} and {a} can say."""

# A name's head stands before the first of these words: "cats with tears of joy".
_AFTER_HEAD = re.compile(
    r"\s+(?:with|without|of|in|on|at|from|for|behind|over|under|drawn|to)\s|(?<=^face)\s+(?=\w+ing\b)"
    r"|(?<=^person)\s+(?=\w+ing\b)|,"
)
_IRREGULAR = {"mouse": "mice", "goose": "geese", "tooth": "teeth", "foot": "feet", "ox": "oxen"}
_IRREGULAR |= {"child": "children", "person": "people", "quiz": "quizzes", "stomach": "stomachs"}
_FORMS = (
    (re.compile(r"(?<!hu)(?<!sha)man$"), "men"),
    (re.compile(r"(?<=[^aeiou])y$"), "ies"),
    (re.compile(r"(?<=\b(?:wol|lea|loa|hal|cal))f$|(?<=\b(?:shel|thie))f$|(?<=\bscar)f$|(?<=\bel)f$"), "ves"),
    (re.compile(r"(?<=\bkni)fe$|(?<=\b[wl]i)fe$"), "ves"),
    (re.compile(r"(?<=\b(?:tomat|potat))o$|(?<=\bvolcan)o$|(?<=\bmang)o$|(?<=\bher)o$"), "oes"),
    (re.compile(r"(?<=s|x|z)$|(?<=ch|sh)$"), "es"),
)
_SAME = re.compile(r"(?:fish|sheep|deer|bison|moose|squid|shrimp|aircraft|series|species)$")
_SINGULAR = re.compile(r"(?:ss|us|(?<!sk)is|ros|lens|gas|atlas|canvas|christmas|series|species)$")
_A_BEFORE_VOWEL = re.compile(r"(?:uni(?!n)|u[sk][eu]|u\W|ufo|eu|ewe|one\b|once\b)")
_AN_BEFORE_CONSONANT = re.compile(r"(?:hour|heir|honest|honou?r|x\W|8)")


@dataclass(frozen=True)
class Thing:
    """One thing that a caption names, or ``count`` of it. size, position: keys of SIZES and POSITIONS."""

    name: str
    style: str | None = None
    """Only when the caption shall name it."""
    count: int = 1
    size: str | None = None
    position: str | None = None


@dataclass(frozen=True)
class Scene:
    """What a caption tells of a picture: one to three things, in order. A pair has a relation (a key of
    RELATIONS); all things have one style or none."""

    things: tuple[Thing, ...]
    relation: str | None = None

    @property
    def plain(self) -> bool:
        """One thing at full size in the middle."""
        first = self.things[0]
        return len(self.things) == 1 and first == Thing(first.name, first.style)


def plural(name: str) -> str:
    """``"cat with tears of joy"`` -> ``"cats with tears of joy"``. A plural stays as it is."""
    head = _head(name)
    start, _, last = head.rpartition(" ")
    return f"{start} {_plural_word(last)}".lstrip() + name[len(head) :]


def with_article(name: str) -> str:
    """``"octopus"`` -> ``"an octopus"``; a plural (``"cherries"``) has no article."""
    if _is_plural(_head(name).rpartition(" ")[2]):
        return name
    vowel = name[:1] in "aeiou" and not _A_BEFORE_VOWEL.match(name)
    return f"{'an' if vowel or _AN_BEFORE_CONSONANT.match(name) else 'a'} {name}"


def _head(name: str) -> str:  # what takes the plural, at its end
    cut = _AFTER_HEAD.search(name)
    return name[: cut.start()] if cut and cut.start() else name


def _is_plural(word: str) -> bool:
    return len(word) > 1 and word.endswith("s") and not _SINGULAR.search(word)


def _plural_word(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if not word[-1:].isalpha() or _is_plural(word) or _SAME.search(word):
        return word
    forms = (ending.sub(many, word) for ending, many in _FORMS if ending.search(word))
    return next(forms, word + "s")


def caption(scene: Scene, generator: torch.Generator, plain_share: float = PLAIN_SHARE) -> str:
    """One caption of the scene by the grammar: MAX_TOKENS at most for names of up to seven words.

    plain_share: of the captions of one full-sized thing the share that are a PLAIN template.
    A frame around the things, then their style, is left out where names of many words leave no room."""
    rng = random.Random(int(torch.randint(2**62, (1,), generator=generator)))
    phrase, style = _phrase(scene, rng), scene.things[0].style
    styled = rng.choice(STYLED).format(a=phrase, style=style) if style else phrase
    frames: Sequence[str] = FRAMES
    if scene.plain:
        frames = PLAIN if rng.random() < plain_share else SENTENCES
    text = _framed(rng.choice(frames), styled, scene, rng)
    if style and rng.random() < EMOJI_SHARE:
        text = with_article(EMOJI_OF.format(a=_framed("{a}", phrase, scene, rng), style=style))
    shorter = (_framed("{a}", shown, scene, rng) for shown in (styled, phrase))
    fitting = (option for option in (text, *shorter) if len(pieces(option)) <= MAX_TOKENS - 2)
    return next(fitting, _framed("{a}", phrase, scene, rng))


def _phrase(scene: Scene, rng: random.Random) -> str:
    """The things without frame and style: several with their articles, one without."""
    first, names = scene.things[0], [thing.name for thing in scene.things]
    slots = dict(zip("xyz", names, strict=False)) | dict(zip("abc", map(with_article, names), strict=False))
    if len(names) == 3:
        return TRIPLE.format(**slots)
    if len(names) == 2:
        return rng.choice(RELATIONS[scene.relation or "and"]).format(**slots)
    if first.count > 1:
        return rng.choice(COUNTS[first.count]).format(many=plural(first.name))
    size = rng.choice(SIZES[first.size]) if first.size else ""
    position = rng.choice(POSITIONS[first.position]) if first.position else ""
    return " ".join(filter(None, (size, first.name, position)))


def _framed(frame: str, phrase: str, scene: Scene, rng: random.Random) -> str:
    one = len(scene.things) == 1 and scene.things[0].count == 1
    article = with_article(phrase) if one else phrase
    # "there are a panda and a koala", but "there is a panda next to a koala"
    many = article == phrase and scene.relation in (None, "and")
    adjective = rng.choice(ADJECTIVES)
    frame = re.sub("{words?}", lambda slot: _words(slot[0] == "{words}", rng), frame)
    return frame.format(
        a=article,
        concept=phrase,
        adjective=adjective,
        adjective_a=with_article(f"{adjective} {phrase}"),
        this_is="these are" if many else "this is",
        is_are="are" if many else "is",
    )


def _words(several: bool, rng: random.Random) -> str:
    return " ".join(_word(rng) for _ in range(rng.randint(1, MOST_WORDS) if several else 1))


def _word(rng: random.Random) -> str:
    chance = rng.random()
    if chance < INVENTED_SHARE:
        return invented(rng)
    return rng.choice(LINKS if chance < INVENTED_SHARE + LINK_SHARE else COMMON_WORDS)


def invented(rng: random.Random) -> str:
    """A word of 2 to 8 letters in which vowels and consonants mostly alternate, as they do in English."""
    letters, vowel = "", rng.random() < 0.4
    for _ in range(rng.randint(2, 8)):
        letters += rng.choice("aeiou" if vowel else "bcdfghjklmnpqrstvwxyz")
        vowel = not vowel if rng.random() < 0.8 else vowel
    return letters


def words_of(names: Sequence[str], styles: Sequence[str]) -> list[str]:
    """All words and marks of the names, their plurals, the styles, the templates and the other words, sorted.

    Words as CLIP's tokenizer splits a text: the style "noto-v1" has four, "noto", "-", "v" and "1"."""
    groups = (*SIZES.values(), *POSITIONS.values(), *COUNTS.values(), *RELATIONS.values())
    templates = [*PLAIN, *SENTENCES, *FRAMES, *ADJECTIVES, TRIPLE, *STYLED, EMOJI_OF, *_CLAUSES]
    templates += [template for group in groups for template in group]
    texts = [re.sub(r"{\w+}", " ", template) for template in templates]
    texts += [*names, *map(plural, names), *styles, *LINKS, *COMMON_WORDS]
    return sorted({word for text in texts for word in pieces(text)})
