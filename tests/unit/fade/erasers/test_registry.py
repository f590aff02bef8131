"""The registry: names and variants, the nearest name for a misspelt one, nothing registered twice."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from fade.erasers.base import get_eraser, known_erasers, register
from fade.errors import UnknownNameError, UsageError
from fade.run.resolve_params import parse_params


def test_fade_is_known_in_both_variants():
    assert known_erasers()["fade"] == ["paper", "official"]
    method = get_eraser("fade", "paper")
    assert (method.name, method.variant, method.requires_neighbours, method.ramp) == (
        "fade",
        "paper",
        True,
        False,
    )
    assert get_eraser("fade", "official").ramp


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
        register(dataclasses.replace(method, ramp=True))


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
