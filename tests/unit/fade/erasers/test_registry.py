"""The registry: names and variants, the nearest name for a misspelt one, nothing registered twice."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from fade.erasers.base import get_eraser, known_erasers, register
from fade.errors import UnknownNameError, UsageError
from fade.run.resolve_params import override, parse_params


def test_fade_is_known_in_both_variants():
    assert known_erasers()["fade"] == ["paper", "official", "official-sampled"]
    method = get_eraser("fade", "paper")
    assert (method.name, method.variant, method.requires_neighbours, method.schedule) == (
        "fade",
        "paper",
        True,
        "decay",
    )
    assert get_eraser("fade", "official").schedule == "ramp"


@pytest.mark.parametrize(
    ("name", "former", "variant"), [("esd", "u", "self"), ("ablation", "model", "nearest")]
)
def test_a_variant_that_was_renamed_to_what_it_is_has_its_former_name(name, former, variant):
    assert get_eraser(name, former) is get_eraser(name, variant)
    assert former not in known_erasers()[name]


@pytest.mark.parametrize(
    ("name", "variant", "given"),
    [
        ("esd", "x", ""),
        ("fade", "paper", "the neighbours"),
        ("uce", "names-2025", "the neighbours"),
        ("ablation", "broader", "the family's name"),
        ("ablation", "nearest", "the nearest neighbour"),
        ("nullspace", "hinge", "the neighbours, words that name no judged concept"),
        ("speed", "all-tokens", "the neighbours, words that name no judged concept"),
    ],
)
def test_every_method_says_what_it_is_given(name, variant, given):
    assert get_eraser(name, variant).given == given


def test_a_variant_can_be_written_in_a_setting():
    """YAML must not read its name as a number."""
    for name, variants in known_erasers().items():
        for variant in variants:
            assert resolve_text(f"method.variant={variant}", f"method.name={name}") == variant


def resolve_text(*overrides):
    raw: dict[str, object] = {}
    for item in overrides:
        override(raw, item)
    return parse_params(raw).method.variant


def test_a_former_name_of_a_variant_still_means_it():
    assert get_eraser("fade", "release") is get_eraser("fade", "official")
    assert parse_params({"method": {"name": "fade", "variant": "release"}}).method.variant == "release"
    with pytest.raises(UsageError, match="twice"):
        register(dataclasses.replace(get_eraser("fade", "paper"), variant="release"))


def test_every_method_says_where_it_comes_from():
    for name, variants in known_erasers().items():
        for variant in variants:
            assert get_eraser(name, variant).source


@pytest.mark.parametrize(
    ("name", "variant", "offer"), [("faed", "paper", "'fade'"), ("fade", "papre", "'paper'")]
)
def test_an_unknown_name_offers_the_nearest(name, variant, offer):
    with pytest.raises(UnknownNameError) as error:
        get_eraser(name, variant)
    assert offer in str(error.value)
    assert error.value.exit_code == 2


def test_a_name_is_registered_once():
    method = get_eraser("fade", "paper")
    assert register(method) is method  # the same again is no change
    with pytest.raises(UsageError, match="twice"):
        register(dataclasses.replace(method, schedule="ramp"))


def test_recipes_are_valid_overrides():
    import yaml

    for name, variants in known_erasers().items():
        for variant in variants:
            raw: dict[str, dict[str, object]] = {}
            for item in get_eraser(name, variant).recipe:
                key, value = item.split("=")
                section, field = key.split(".")
                raw.setdefault(section, {})[field] = yaml.safe_load(value)
            parse_params(raw)


def test_listing_methods_needs_no_torch():
    code = (
        "import sys; from fade.erasers.base import known_erasers; known_erasers(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
