"""Prompts that a model does not read whole, or not apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.config import NeighborhoodConfig, SamplerConfig
from fade.data.vocabulary import Concept, Vocabulary
from fade.errors import UsageError
from fade.generation.cache import Cache
from fade.generation.generator import ImageGenerator
from fade.mining.neighborhood import mine
from fade.models.base import DiffusionModel
from fade.models.loading import load_model
from fade.models.prompts import alike, require_distinct, require_whole, tokenize
from tests.support import tiny_tokenizer

TEMPLATE = "a {concept}"
LONG = "cat " * 12 + "dog"
"""With \"a\", begin and end 16 tokens, as many as the tiny model reads."""


@pytest.fixture(scope="module")
def model(tiny_base_dir: Path) -> DiffusionModel:
    return load_model(str(tiny_base_dir), device="cpu")


def refused(model: DiffusionModel, names: list[str], *targets: str) -> str:
    """The sentence of the refusal; its exit code is that of bad usage."""
    with pytest.raises(UsageError) as caught:
        require_distinct(model, TEMPLATE, names, targets, "mine")
    assert caught.value.exit_code == 2 and " Next: " in str(caught.value)
    return str(caught.value)


def test_a_prompt_is_cut_where_the_encoder_stops_reading(model: DiffusionModel) -> None:
    ids, cut = tokenize(model, [f"a {LONG}", f"a cat {LONG}"])
    assert cut == [False, True]
    require_whole(model, [f"a {LONG}"], "mine")
    with pytest.raises(UsageError, match="the prompt 'a cat .*' is longer than the 16 tokens that") as caught:
        require_whole(model, ["a cat", f"a cat {LONG}"], "generate")
    assert "shorten the prompt" in caught.value.action
    # what is read of it is the embedding of another prompt
    whole, _ = tokenize(model, ["a cat cat" + " cat" * 11])
    assert ids[1] == whole[0] != ids[0]


def test_a_concept_that_is_cut_is_refused_by_name_whoever_is_the_target(model: DiffusionModel) -> None:
    assert "cat cat" in refused(model, ["panda", f"cat {LONG}"], "panda")
    assert "cat cat" in refused(model, ["panda", f"cat {LONG}"], f"cat {LONG}")
    require_distinct(model, TEMPLATE, ["panda", LONG], [LONG], "mine")  # the control


def test_a_target_that_reads_like_another_concept_is_refused(model: DiffusionModel) -> None:
    """No letter of the script is known, so that all words of as many letters are one."""
    sentence = refused(model, ["panda", "cat 猫", "cat 犬", "dog 猫"], "cat 犬")
    assert "cannot tell apart 'cat 犬', 'cat 猫'" in sentence and "dog" not in sentence
    assert "data.base" in sentence
    require_distinct(model, TEMPLATE, ["panda", "cat 猫", "dog 猫"], ["cat 猫"], "mine")  # the control


def test_a_target_of_unknown_letters_alone_is_refused(model: DiffusionModel) -> None:
    assert "knows no character of '猫'" in refused(model, ["panda", "猫"], "猫")
    require_distinct(model, TEMPLATE, ["panda", "猫"], ["panda"], "mine")


def test_two_that_nobody_erases_are_named_and_count_twice(
    model: DiffusionModel, capsys: pytest.CaptureFixture[str]
) -> None:
    require_distinct(model, TEMPLATE, ["panda", "wolf 猫", "wolf 犬", "cat"], ["panda"], "mine")
    written = capsys.readouterr().err
    assert "cannot tell apart 'wolf 猫', 'wolf 犬'" in written and "count as one concept 2 times" in written
    require_distinct(model, TEMPLATE, ["panda", "wolf", "cat"], ["panda"], "mine")
    assert capsys.readouterr().err == ""


def test_one_tokenizer_that_reads_the_whole_is_enough(tiny_base_dir: Path) -> None:
    """As with T5 beside CLIP: what one cuts, or cannot tell apart, the other reads."""
    model = load_model(str(tiny_base_dir), device="cpu")
    long, twins = f"a cat {LONG}", {"one": f"a cat {LONG}", "two": f"a cat {LONG} lion"}
    assert tokenize(model, [long])[1] == [True] and alike(model, twins) == [["one", "two"]]
    model.parts["tokenizer_2"] = tiny_tokenizer(max_tokens=32)
    assert tokenize(model, [long])[1] == [False] and alike(model, twins) == []


@pytest.mark.parametrize("names", [("panda", f"cat {LONG}", "bear"), ("panda", "bear", "cat 猫", "cat 犬")])
def test_nothing_is_drawn_of_such_a_vocabulary(
    model: DiffusionModel, tmp_path: Path, names: tuple[str, ...]
) -> None:
    """The target is the last; the encoder of pictures would be called after a first drawing."""
    generator = ImageGenerator(model, SamplerConfig(steps=2), Cache(tmp_path))
    vocabulary = Vocabulary(tuple(Concept(name, "") for name in names))
    config = NeighborhoodConfig(k=1, k_heldout=1, images_per_concept=1)
    with pytest.raises(UsageError, match="mine: "):
        mine(names[-1], vocabulary, generator, None, config)  # type: ignore[arg-type]
    assert generator.generated == 0 and not list(tmp_path.rglob("*.safetensors"))
