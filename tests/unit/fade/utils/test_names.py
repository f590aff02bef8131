"""A name has one spelling, is visible, is not reserved, and looks like no other."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fade.data.manifest import MANIFEST
from fade.data.vocabulary import LONGEST_SLUG, Concept, Vocabulary, slug
from fade.errors import DataError, UnknownNameError, UsageError
from fade.utils.names import checked_name, lookalikes, normal_name, skeleton
from fade.utils.parsing import parse_yaml
from tests.datasets import make_dataset
from tests.hostile import HOSTILE

ODD = ["\n", "\r", "\t", "\x00", "\x1b", "\x7f", "\x85", "\x9b", "\xa0", "\xad", "\u200b", "\u200d", "\u2028"]
ODD += ["\u2029", "\u202e", "\u2066", "\u3000", "\ufeff", "\ufe0f", "\ud800", "\u3164", "\U000e0041"]
ODD += ["\ufff0", "\ufff8", "\ufffc", "\ue000", "\uffff", "\ufdd0", "\U0010fffe", "\u0378"]


@pytest.mark.parametrize("sign", ODD, ids=ascii)
@pytest.mark.parametrize("place", ["{}panda", "pan{}da", "panda{}"])
def test_an_invisible_sign_is_refused_anywhere(sign: str, place: str) -> None:
    with pytest.raises(ValueError, match="a name holds no "):
        normal_name(place.format(sign))


@pytest.mark.parametrize(
    "name",
    [
        *("base", "Release", "a + b", "..", "../x", "a/b", "a\\b", "-x", ".x", "{x}", "", "  "),
        *("r\u0435lease", "b\u0430se", "\uff42ase", "\ua4d0\ua4ee\ua4e2\ua4f0", "\u0301", "red \u0301heart"),
    ],
)
def test_a_reserved_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="the concept "):
        checked_name("concept", name, stage="target")


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        (" panda ", "panda"),
        ("cafe\u0301", "café"),
        ("Panda", "Panda"),
        ("パンダ", "パンダ"),
        ("x" * 200, "x" * 200),
    ],
)
def test_a_name_is_composed_and_has_no_outer_blanks(typed: str, name: str) -> None:
    assert normal_name(typed) == name == normal_name(name)


def test_every_name_of_the_shipped_data_is_normal(repo: Path) -> None:
    families = parse_yaml((repo / "fade" / "pretrain" / "vocabulary.yaml").read_text(encoding="utf-8"))[
        "families"
    ]
    concepts = [name for family in families.values() for name in family["concepts"]]
    assert len(concepts) == len(set(concepts)) >= 110
    for name in (*concepts, *families):
        assert normal_name(name) == name


TWINS = {
    "case": ("panda", "Panda"),
    "Cyrillic": ("panda", "p\u0430nda"),
    "all Cyrillic": ("cope", "\u0441\u043e\u0440\u0435"),
    "Greek": ("Tomato", "\u03a4omato"),
    "full width": ("panda", "\uff50\uff41\uff4e\uff44\uff41"),
    "ligature": ("firefly", "\ufb01refly"),
    "palochka": ("koala", "koa\u04cfa"),
    "Coptic": ("cope", "\u2ca5\u2c9f\u2ca3\u2c89"),
    "Lisu": ("CAT", "\ua4da\ua4ee\ua4d4"),
    "small capitals": ("cat", "\u1d04\u1d00\u1d1b"),
    "blanks": ("red heart", "red  heart"),
    "dash": ("heart-shaped", "heart\u2011shaped"),
    "apostrophe": ("9 o'clock", "9 o\u2019clock"),
}


@pytest.mark.parametrize("pair", TWINS.values(), ids=TWINS)
def test_two_names_that_look_alike_are_no_vocabulary(pair: tuple[str, str]) -> None:
    assert skeleton(pair[0]) == skeleton(pair[1]) and lookalikes(pair) == pair
    with pytest.raises(DataError, match="cannot be told apart") as caught:
        Vocabulary(tuple(Concept(name, "") for name in pair))
    assert all(ascii(name) in str(caught.value) for name in pair)


@pytest.mark.parametrize("pair", TWINS.values(), ids=TWINS)
def test_a_twin_of_a_concept_is_refused_with_the_concept(pair: tuple[str, str]) -> None:
    with pytest.raises(UnknownNameError, match="did you mean") as caught:
        Vocabulary((Concept(pair[0], ""), Concept("lemon", ""))).index(pair[1])
    assert repr(pair[0]) in caught.value.action


@pytest.mark.parametrize(
    "name", [" panda", "pan\u200bda", "cafe\u0301", "panda\n", "base", "a + b", "x" * 201]
)
def test_a_vocabulary_has_normal_names_alone(name: str) -> None:
    for concept in (Concept(name, ""), Concept("lemon", name)):
        with pytest.raises(DataError, match=r"^vocabulary: the (concept|family) "):
            Vocabulary((concept,))
    with pytest.raises(DataError, match="the style "):
        Vocabulary((Concept("lemon", ""),), (name,))


def test_names_with_one_slug_are_no_vocabulary() -> None:
    with pytest.raises(DataError, match=r"'c' and 'c\+\+' cannot be told apart"):
        Vocabulary((Concept("c", ""), Concept("c++", "")))


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_bytes(b"\xef\xbb\xbfpanda,bears\r\nlemon\r\n")
    assert Vocabulary.from_file(words).concepts == (Concept("panda", "bears"), Concept("lemon", ""))
    make_dataset(tmp_path)
    manifest = tmp_path / MANIFEST
    plain = Vocabulary.from_file(manifest)
    manifest.write_bytes(b"\xef\xbb\xbf" + manifest.read_bytes())
    assert Vocabulary.from_file(manifest) == plain and len(plain) > 1


@pytest.mark.parametrize("name", [*HOSTILE.values(), ".", "..", "/", "...", "-", "a" * 300, "é" * 300, "İ"])
def test_a_slug_is_a_safe_file_name(name: str, tmp_path: Path) -> None:
    made = slug(name)
    assert 0 < len(made) <= LONGEST_SLUG and set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not made.startswith("-") and len(f"fade-{made}.decisions".encode()) < 255
    (tmp_path / made).mkdir()


def test_slugs_of_other_scripts_and_of_long_names_do_not_collide() -> None:
    names = [
        "熊猫",
        "パンダ",
        "\u0434\u043e\u043c",
        "\u0434\u043e\u043c2",
        "!",
        "?",
        "",
        "a" * 200,
        "a" * 201,
        "é",
        "è",
        "cafe",
        "café",
    ]
    assert len({slug(name) for name in names}) == len(names)


@given(st.text(st.characters(codec=None), max_size=50))
def test_a_name_is_refused_or_stays_what_it_is(text: str) -> None:
    try:
        name = normal_name(text)
    except ValueError:
        return
    assert normal_name(name) == name == unicodedata.normalize("NFC", name) and name.encode()
