"""The registry: names and variants, the nearest name for a misspelt one, nothing registered twice."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from fade.config import parse_params
from fade.erasers.base import get_method, known_methods, register
from fade.errors import UnknownNameError, UsageError


def test_fade_is_known_in_both_variants():
    assert known_methods()["fade"] == ["paper", "release"]
    method = get_method("fade", "paper")
    assert (method.name, method.variant, method.needs_neighbours, method.ramp) == (
        "fade",
        "paper",
        True,
        False,
    )
    assert get_method("fade", "release").ramp


def test_every_method_says_where_it_comes_from():
    for name, variants in known_methods().items():
        for variant in variants:
            assert get_method(name, variant).source


@pytest.mark.parametrize(
    ("name", "variant", "offer"), [("faed", "paper", "'fade'"), ("fade", "papre", "'paper'")]
)
def test_an_unknown_name_offers_the_nearest(name, variant, offer):
    with pytest.raises(UnknownNameError) as error:
        get_method(name, variant)
    assert offer in str(error.value)
    assert error.value.exit_code == 2


def test_a_name_is_registered_once():
    method = get_method("fade", "paper")
    assert register(method) is method  # the same again is no change
    with pytest.raises(UsageError, match="twice"):
        register(dataclasses.replace(method, ramp=True))


def test_recipes_are_valid_overrides():
    import yaml

    for name, variants in known_methods().items():
        for variant in variants:
            raw: dict[str, dict[str, object]] = {}
            for item in get_method(name, variant).recipe:
                key, value = item.split("=")
                section, field = key.split(".")
                raw.setdefault(section, {})[field] = yaml.safe_load(value)
            parse_params(raw)


def test_listing_methods_needs_no_torch():
    code = "import sys; from fade.erasers.base import known_methods; known_methods(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
