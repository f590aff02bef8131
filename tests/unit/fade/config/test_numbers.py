"""No number of params.yaml is infinite, none or a switch, whichever key has it and however it is written."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fade.config import Params
from fade.errors import ConfigError, FadeError
from fade.run.resolve_params import load_params, override_path, parse_params, resolve
from fade.utils.seeds import MAX_SEED


def numbers(node: Mapping[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Dotted key and a YAML template of every number and list of numbers below ``node``."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from numbers(value, (*at, key))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield ".".join((*at, key)), "{}"
        elif isinstance(value, list) and value and isinstance(value[0], int | float):
            yield ".".join((*at, key)), "[{}]"


NUMBERS = dict(numbers(Params().model_dump(mode="json", by_alias=True)))


def test_every_kind_of_section_is_among_the_numbers() -> None:
    assert len(NUMBERS) > 90
    assert {"train.max_grad_norm", "method.ridge", "attack.times", "gate.erased", "bench.seeds"} <= set(
        NUMBERS
    )


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, True, False])
def test_no_key_takes_what_is_no_number(value: object) -> None:
    for key, template in NUMBERS.items():
        raw = Params().model_dump(mode="json", by_alias=True)
        *sections, last = key.split(".")
        node: Any = raw
        for section in sections:
            node = node[section]
        node[last] = {"[{}]": [value], "{}": value}[template]
        with pytest.raises(ConfigError) as caught:
            parse_params(raw)
        assert key in str(caught.value)


@pytest.mark.parametrize(
    "override", ["train.max_grad_norm=.inf", "attack.times=[0.3, .nan]", "attack.times=[yes]"]
)
def test_an_override_neither(repo: Path, override: str) -> None:
    with pytest.raises(ConfigError, match=r"config: .*(train\.max_grad_norm|attack\.times)"):
        load_params(repo / "params.yaml", [override])


@pytest.mark.parametrize(
    "item",
    [
        "gate.erased=0",
        " gate.erased=0",
        "gate .erased=0",
        "gate. erased =0",
        "\u00a0gate\u2003.erased=0",
        "\tgate.erased = 0",
    ],
)
def test_blanks_around_a_key_are_none_of_its_name(repo: Path, item: str) -> None:
    assert override_path(item) == ("gate", "erased")
    assert load_params(repo / "params.yaml", [item]).gate.erased == 0


FILES = {
    "a key twice": ("train:\n  steps: 3\n  steps: 4\n", "line 3: the key 'steps' appears twice"),
    "a section twice": (
        "train: {steps: 3}\nmesh: {}\ntrain: {lr: 0.1}\n",
        "line 3: the key 'train' appears twice",
    ),
    "a deep section": ("train: " + "{a: " * 5000, "nested more than"),
    "a list as a key": ("? [train]\n: 1\n", "the key is no text"),
    "a long key": ("x" * 900 + ": 1\n", "unknown key xxx"),
    "a long value": ("train: {steps: " + "x" * 9999 + "}\n", "train.steps = 'xxx"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_loses_or_floods_is_refused(tmp_path: Path, case: str) -> None:
    text, message = FILES[case]
    (tmp_path / "mine.yaml").write_text(text)
    start = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load_params(tmp_path / "mine.yaml")
    assert message in str(caught.value) and len(str(caught.value)) < 900
    assert time.process_time() - start < 1.0


OVERRIDES = {
    "many parts": "settings." + "a." * 50_000 + "a=1",
    "a deep value": "train.steps=" + "[" * 100_000,
    "a long number": "train.steps=" + "9" * 100_000,
    "a long rate": "train.lr=" + "1" * 100_000 + "e5",
    "half a character": "register.experiment=\udc80",
    "a seed beyond 64 bits": "neighborhood.seed=99999999999999999999",
    "a seed of the benchmark": "bench.seeds=[99999999999999999999]",
    "steps without end": "sampler.steps=99999999999999999999",
    "more steps than times": "sampler.steps=1001",
    "an interval that ends before it begins": "sampler.guidance_interval=[0.8,0.2]",
    "an interval beyond the schedule": "sampler.guidance_interval=[0,1.5]",
    "resamples without end": "evaluate.bootstrap=99999999999999999999",
    "base 60": "train.steps=1:30",
    "a prefix with a path": "register.model_prefix=a/b",
    "a prefix of dots": "register.model_prefix=..",
    "a prefix with an escape": "register.model_prefix='a\x1b'",
    "a prefix with an end": "register.model_prefix='a\n'",
    "a prompt with a width": "sampler.prompt='{concept:>300000000}'",
    "a prompt with a nested width": "sampler.prompt='{concept:{concept}}'",
    "a prompt that converts": "sampler.prompt='a {concept!r}'",
    "a bomb": "checks.licences=[&a [x,x], *a, *b]",
    "a date": "train.steps=2026-02-30",
    "a whole section of a method": "settings={nullspace: ['method={name: esd}']}",
}


@pytest.mark.parametrize("case", OVERRIDES)
def test_an_override_that_floods_is_refused(repo: Path, case: str) -> None:
    start = time.process_time()
    with pytest.raises(FadeError) as caught:
        resolve(repo / "params.yaml", [OVERRIDES[case]])
    assert len(str(caught.value)) < 900 and caught.value.action
    assert time.process_time() - start < 1.0


def test_seeds_up_to_the_bound_and_usual_prefixes_are_taken(repo: Path) -> None:
    for seed in (-MAX_SEED, -1, MAX_SEED):
        assert load_params(repo / "params.yaml", [f"evaluate.seed={seed}"]).evaluate.seed == seed
    for prefix in ("fade", "plain-card", "team_1.fade"):
        loaded = load_params(repo / "params.yaml", [f"register.model_prefix={prefix}"])
        assert loaded.register_.model_prefix == prefix


def test_no_whole_number_is_without_bounds() -> None:
    for key, template in NUMBERS.items():
        raw = Params().model_dump(mode="json", by_alias=True)
        *sections, last = key.split(".")
        node: Any = raw
        for section in sections:
            node = node[section]
        if isinstance(node[last], int) or template == "[{}]":
            node[last] = {"[{}]": [10**20], "{}": 10**20}[template]
            with pytest.raises(ConfigError):
                parse_params(raw)
