"""What a family lacks is known from a configuration, before a weight is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fade.models.capabilities import NULL_PROMPT, has_null_prompt
from fade.models.layout import check_model, read_config
from fade.models.loading import load_model
from tests.models_of_families import FAMILIES


@pytest.mark.parametrize("name", list(FAMILIES))
def test_by_the_configuration_a_null_prompt_is_there_where_the_loaded_model_has_one(
    name: str, family_dir: Callable[[str], Path]
) -> None:
    model = load_model(str(family_dir(name)), device="cpu")
    denoiser = next(part for part in check_model(family_dir(name), "base") if part.name == model.DENOISER)
    known = has_null_prompt(denoiser.kind, read_config(denoiser.configs[0]))
    assert known == (NULL_PROMPT in model.capabilities) == (name != "flux-schnell")
