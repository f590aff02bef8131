"""A stored moment is taken again only where everything that decides its last bit is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fade.adapters import moments
from fade.adapters.moments import PromptMoments, mean_moment, prompt_moment, text_states
from fade.generation.cache import Cache
from tests.unit.fade.adapters.text_model import text_model

PROMPTS = [f"a panda {i}" for i in range(3)]


def test_a_prompts_moment_is_that_of_its_states_and_is_made_once(tmp_path: Path) -> None:
    model, store = text_model(), Cache(tmp_path)
    first = prompt_moment(model, PROMPTS, store)
    states = torch.cat([model.encode_batch([prompt]).tokens[0] for prompt in PROMPTS]).double()
    assert torch.allclose(first, states.T @ states / len(states), atol=1e-12)
    model.calls.clear()
    assert torch.equal(PromptMoments(model, [PROMPTS], store)[0], first) and model.calls == []
    assert torch.equal(mean_moment(text_states(model, PROMPTS)), first) and model.calls == [PROMPTS]


@pytest.mark.parametrize("change", ["libraries", "memory", "machine", "base", "prompts", "nothing"])
def test_what_decides_its_last_bit_is_in_its_key(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompts, store = text_model(), PROMPTS, Cache(tmp_path)
    prompt_moment(model, prompts, store)
    if change == "libraries":
        newer: Any = lambda names: dict.fromkeys(names, "99")  # noqa: E731
        monkeypatch.setattr(moments, "versions", newer)
    elif change == "memory":  # fewer prompts a call of the encoder
        model.batches = replace(model.batches, prompts=2)
    elif change == "machine":  # a cache that several read
        monkeypatch.setattr(moments, "device_name", lambda device: "another")
    elif change == "base":
        model.sha256 = "d" * 64
    elif change == "prompts":
        prompts = PROMPTS[::-1]
    model.calls.clear()
    prompt_moment(model, prompts, store)
    assert bool(model.calls) == (change != "nothing")
