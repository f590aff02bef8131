"""Names, prompts and vocabularies."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.data.vocabulary import Concept, Vocabulary, fill, prompts, slug
from fade.errors import DataError, UnknownNameError

VOCABULARY = Vocabulary(
    (Concept("panda", "animals"), Concept("grinning cat", "cats"), Concept("crying cat", "cats"))
)


def test_a_prompt_names_the_concept_and_the_style() -> None:
    assert fill("a {concept}", "panda") == "a panda"
    assert fill("a {concept}", "panda", "noto") == "a panda in the noto style"
    assert fill("a {concept}", "") == ""
    assert prompts("an emoji of a {concept}", ["x", "y"]) == ["an emoji of a x", "an emoji of a y"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Grinning cat", "grinning-cat"), ("  a/b  c ", "a-b-c"), ("9 o'clock", "9-o-clock")],
)
def test_slugs_are_safe_file_names(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_names_beyond_ascii_keep_apart() -> None:
    slugs = {slug(name) for name in ("パンダ", "レモン", "crème", "crime", "cr me")}
    assert len(slugs) == 5 and all(s.isascii() and s for s in slugs)


def test_an_unknown_concept_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(UnknownNameError) as caught:
        VOCABULARY.index("grining cat")
    assert "'grinning cat'" in str(caught.value) and caught.value.exit_code == 2


def test_shared_words_make_a_name_near() -> None:
    with pytest.raises(UnknownNameError, match="crying cat"):
        VOCABULARY.index("cat that is crying bitterly")


def test_a_concept_cannot_stand_twice() -> None:
    with pytest.raises(DataError, match="twice"):
        Vocabulary((Concept("a", ""), Concept("a", "")))


def test_a_plain_list_is_a_vocabulary(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("# birds\nblue jay, birds\n\nraven\n", encoding="utf-8")
    assert Vocabulary.from_file(file).concepts == (Concept("blue jay", "birds"), Concept("raven", ""))


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"\xff\xfe\x00"])
def test_an_empty_or_unreadable_list_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "words.txt"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"words\.txt"):
        Vocabulary.from_file(file)
