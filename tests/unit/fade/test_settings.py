"""What a run's parameters are made of: the file, the method's own settings, the user's; and choices that contradict one another."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.concepts import Concept, Vocabulary
from fade.errors import ConfigError, UnknownNameError
from fade.settings import check_target, method_overrides, resolve
from fade.workshop import Workshop
from tests.datasets import make_dataset

PARAMS = Path(__file__).resolve().parents[3] / "params.yaml"
VOCABULARY = Vocabulary(tuple(Concept(n, "animals") for n in ("panda", "bear", "koala")))


def asked(method: str, *more: str):
    return resolve(PARAMS, [*method_overrides(method), *more])


def test_a_bare_name_means_the_first_variant_and_brings_its_settings():
    assert (asked("fade").method.name, asked("fade").method.variant) == ("fade", "paper")
    esd = asked("esd")
    assert esd.method.variant == "x" and esd.mesh.targets == ("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")
    assert asked("esd/x-strict").mesh.targets == ("attn2.to_k", "attn2.to_v")
    assert asked("fade").mesh.targets != esd.mesh.targets


def test_the_users_own_setting_wins():
    assert asked("esd", "mesh.targets=[attn2.to_v]").mesh.targets == ("attn2.to_v",)


@pytest.mark.parametrize(
    ("method", "more", "says"),
    [
        ("fade", ("method.anchors=neighbourhood",), "fade/paper has its neighbours already"),
        ("esd", ("method.replacement=bear",), "esd/x has no alternative"),
    ],
)
def test_choices_that_contradict_the_method_are_refused(method, more, says):
    with pytest.raises(ConfigError, match=says):
        asked(method, *more)


def test_anchors_and_replacement_are_taken_where_they_mean_something():
    assert asked("esd", "method.anchors=neighbourhood").method.anchors == "neighbourhood"
    assert asked("surgical", "method.replacement=bear").method.replacement == "bear"


@pytest.mark.parametrize("method", ["esdd", "esd/y"])
def test_an_unknown_method_offers_the_nearest(method):
    with pytest.raises(UnknownNameError):
        asked(method)


def test_a_replacement_is_another_concept_of_the_vocabulary():
    check_target(asked("surgical", "method.replacement=bear"), "panda", VOCABULARY)
    with pytest.raises(ConfigError, match="by itself"):
        check_target(asked("surgical", "method.replacement=panda"), "panda", VOCABULARY)
    with pytest.raises(UnknownNameError, match="method.replacement"):
        check_target(asked("surgical", "method.replacement=baer"), "panda", VOCABULARY)
    with pytest.raises(UnknownNameError, match="target"):
        check_target(asked("surgical"), "pandda", VOCABULARY)


def test_a_style_has_its_own_judge_prompt_and_neighbourhood_and_the_user_wins():
    settings = resolve(PARAMS).styles.settings
    styled = asked("surgical", *settings, "neighborhood.k=2")
    assert (styled.data.erase, styled.data.judge, styled.neighborhood.k) == ("styles", "data/judge/styles", 2)
    assert styled.sampler.prompt == "a panda in the {concept} style"


def test_indirect_prompts_are_refused_for_a_style():
    with pytest.raises(ConfigError, match="a style has none.*evaluate.indirect_images to 0"):
        asked("surgical", *resolve(PARAMS).styles.settings, "evaluate.indirect_images=4")


def test_a_style_is_looked_up_among_the_styles(tmp_path):
    make_dataset(tmp_path / "images")
    params = resolve(PARAMS, [*resolve(PARAMS).styles.settings, f"data.images={tmp_path / 'images'}"])
    shop = Workshop(params, "noto", tmp_path)
    concepts = Workshop(resolve(PARAMS, [f"data.images={tmp_path / 'images'}"]), "panda", tmp_path).vocabulary
    assert shop.vocabulary.names == concepts.styles and len(concepts.styles) > 1
    assert shop.labels() is None
    check_target(params, concepts.styles[0], shop.vocabulary)
    with pytest.raises(UnknownNameError):
        check_target(params, concepts.names[0], shop.vocabulary)
