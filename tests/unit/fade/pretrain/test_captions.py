"""Captions: plurals, articles, the grammar and its tokenizer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from fade.errors import DataError
from fade.pretrain import captions
from fade.pretrain.captions import MAX_TOKENS, RELATIONS, Scene, Thing, caption, plural, with_article
from fade.pretrain.drawings import load_recipe
from fade.pretrain.tokenizer import build_tokenizer, pieces

LONGEST = "grinning face with smiling eyes"
INVENTED = re.compile(r"[a-z]{2,8}")


def all_of(scene: Scene, n: int = 300, plain_share: float = captions.PLAIN_SHARE) -> list[str]:
    generator = torch.Generator().manual_seed(0)
    return [caption(scene, generator, plain_share) for _ in range(n)]


@pytest.mark.parametrize(
    ("name", "many"),
    [
        ("panda", "pandas"),
        ("cat with tears of joy", "cats with tears of joy"),
        ("face with tears of joy", "faces with tears of joy"),
        ("face savoring food", "faces savoring food"),
        ("strawberry", "strawberries"),
        ("monkey", "monkeys"),
        ("wolf", "wolves"),
        ("kitchen knife", "kitchen knives"),
        ("giraffe", "giraffes"),
        ("bus", "buses"),
        ("octopus", "octopuses"),
        ("peach", "peaches"),
        ("fox", "foxes"),
        ("tropical fish", "tropical fish"),
        ("mouse", "mice"),
        ("snowman", "snowmen"),
        ("human", "humans"),
        ("cherries", "cherries"),
    ],
)
def test_plurals(name: str, many: str) -> None:
    assert plural(name) == many


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("panda", "a panda"),
        ("octopus", "an octopus"),
        ("oncoming taxi", "an oncoming taxi"),
        ("unicorn", "a unicorn"),
        ("unamused face", "an unamused face"),
        ("umbrella", "an umbrella"),
        ("hourglass", "an hourglass"),
        ("one", "a one"),
        ("bus", "a bus"),
        ("cherries", "cherries"),
        ("face with sunglasses", "a face with sunglasses"),
    ],
)
def test_articles(name: str, text: str) -> None:
    assert with_article(name) == text


def test_most_captions_of_one_thing_are_plain_and_the_article_is_right() -> None:
    texts = all_of(Scene((Thing("octopus"),)), 1000)
    plain = {t.format(a="an octopus", concept="octopus") for t in captions.PLAIN}
    assert 0.4 < sum(text in plain for text in texts) / len(texts) < 0.6
    assert plain.issuperset(all_of(Scene((Thing("octopus"),)), plain_share=1.0))
    assert plain.isdisjoint(all_of(Scene((Thing("octopus"),)), plain_share=0.0))
    assert all("octopus" in text for text in texts) and len(set(texts)) > 20
    # "a octopus" is what the pipeline's own prompt gives, and nothing else has it
    assert {text for text in texts if re.search(r"\ba octopus", text)} == {"a octopus"}


def test_what_is_drawn_is_named_and_nothing_else() -> None:
    for size, words in captions.SIZES.items():
        texts = all_of(Scene((Thing("panda", size=size),)))
        assert all(any(f"{word} panda" in text for word in words) for text in texts)
    for position, words in captions.POSITIONS.items():
        texts = all_of(Scene((Thing("panda", position=position),)))
        assert all(any(word in text for word in words) for text in texts)
    assert all(
        re.search(r"\b(two|pair of) wolves", text) for text in all_of(Scene((Thing("wolf", count=2),)))
    )
    assert all("three wolves" in text for text in all_of(Scene((Thing("wolf", count=3),))))
    assert all("noto" in text for text in all_of(Scene((Thing("panda", "noto"),))))
    drawn = re.compile(r"\b(small|tiny|big|left|right|top|corner|two|three|above|under|style)\b")
    assert not any(drawn.search(text) for text in all_of(Scene((Thing("panda"),))))


@pytest.mark.parametrize("relation", RELATIONS)
def test_both_of_a_pair_are_named_in_order_within_the_length(relation: str) -> None:
    scene = Scene((Thing(LONGEST, "noto-v1"), Thing("grinning cat with smiling eyes", "noto-v1")), relation)
    for text in all_of(scene):
        assert text.index(LONGEST) < text.index("grinning cat with smiling eyes")
        assert len(pieces(text)) <= MAX_TOKENS - 2


def test_a_triple_of_the_longest_names_fits() -> None:
    texts = all_of(Scene((Thing(LONGEST), Thing(LONGEST + " two"), Thing(LONGEST + " three"))))
    assert max(len(pieces(text)) for text in texts) <= MAX_TOKENS - 2


def test_every_word_of_a_caption_is_known_except_invented_ones() -> None:
    names, styles = ["octopus", "cherries", "wolf"], ["noto-v1"]
    words = set(captions.words_of(names, styles))
    scenes = [Scene((Thing(n, s, c),)) for n in names for s in (None, "noto-v1") for c in (1, 2, 3)]
    scenes += [Scene((Thing("wolf"), Thing("octopus")), relation) for relation in RELATIONS]
    unknown = {w for scene in scenes for text in all_of(scene, 100) for w in pieces(text)} - words
    assert unknown and all(INVENTED.fullmatch(word) for word in unknown)


def test_the_same_generator_state_gives_the_same_captions() -> None:
    scene = Scene((Thing("panda"),))
    other = torch.Generator().manual_seed(1)
    assert all_of(scene) == all_of(scene) != [caption(scene, other) for _ in range(300)]


def test_heldout_sentences_are_no_training_sentences() -> None:
    heldout = {template.lower() for template in captions.HELDOUT_TEMPLATES}
    assert not heldout & {*captions.PLAIN, *captions.SENTENCES, *captions.FRAMES}
    assert all(template.count("{concept}") == 1 for template in heldout)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    words = captions.words_of(["panda", LONGEST, "piñata"], ["noto-v1"])
    build_tokenizer(words, MAX_TOKENS, folder)
    return CLIPTokenizer.from_pretrained(folder)


def test_a_word_of_the_vocabulary_is_one_token_and_any_other_is_spelled(tokenizer: CLIPTokenizer) -> None:
    assert tokenizer.tokenize(f"A {LONGEST}, pandas") == [
        f"{word}</w>" for word in ["a", *LONGEST.split(), ",", "pandas"]
    ]
    assert len(tokenizer.tokenize("piñata")) == 1
    assert tokenizer.decode(tokenizer("piñata")["input_ids"], skip_special_tokens=True) == "piñata"
    assert len(tokenizer.tokenize("zebra")) > 1
    printable = " ".join(map(chr, range(33, 127)))
    ids = tokenizer(printable, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids).split() == printable.lower().split()
    assert tokenizer.decode(tokenizer("The ZEBRA!")["input_ids"], skip_special_tokens=True) == "the zebra !"


def test_a_text_has_its_end_marks_and_is_padded_with_the_last(tokenizer: CLIPTokenizer) -> None:
    ids = tokenizer("panda", padding="max_length", max_length=MAX_TOKENS)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id and ids[2:] == [tokenizer.eos_token_id] * (MAX_TOKENS - 2)
    assert tokenizer.model_max_length == MAX_TOKENS


def test_two_builds_are_equal_byte_for_byte(tmp_path: Path) -> None:
    # Three, of many words: the trainer's own order changes from run to run
    words = captions.words_of(
        [LONGEST, "panda", "octopus", "strawberry", "tangerine", "locomotive"], ["noto"]
    )
    for name in "abc":
        build_tokenizer(words, MAX_TOKENS, tmp_path / name)
    first, *others = [(tmp_path / name / "tokenizer.json").read_bytes() for name in "abc"]
    assert others == [first, first]


def test_what_clip_splits_is_refused_as_a_word(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="noto-v1"):
        build_tokenizer(["panda", "noto-v1"], MAX_TOKENS, tmp_path)


def test_words_without_meaning_are_none_that_place_count_or_name() -> None:
    meaning = [*captions.SIZES.values(), *captions.POSITIONS.values(), *captions.COUNTS.values()]
    meaning += [*captions.RELATIONS.values(), captions.STYLED]
    words = {word for group in meaning for text in group for word in re.findall(r"[a-z]+(?![^{]*})", text)}
    families = load_recipe()["families"].values()
    words |= {word for family in families for name in family["concepts"] for word in pieces(name)}
    assert len(set(captions.COMMON_WORDS)) == 2000 and not words & set(captions.COMMON_WORDS)
