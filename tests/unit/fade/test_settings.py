"""What a run's parameters are made of: the file, the method's own settings, the user's; and choices that contradict one another."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.concepts import Concept, Vocabulary
from fade.errors import ConfigError, UnknownNameError
from fade.settings import check_target, method_overrides, resolve

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
