"""params.yaml is complete, says the documented defaults, and every way of getting it wrong is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from fade.config import Params
from fade.errors import ConfigError
from fade.run.resolve_params import load_params, parse_params


def leaves(node: Mapping[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything below ``node``."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*at, key))
        else:
            yield ".".join((*at, key)), value


def dumped(params: Params) -> dict[str, Any]:
    """Dotted key and value of everything but `worlds`, which say what this repository tracks."""
    return dict(leaves(params.model_dump(mode="json", by_alias=True, exclude={"worlds"})))


DEFAULTS = dumped(Params())


@pytest.fixture
def params_file(repo: Path) -> Path:
    return repo / "params.yaml"


@pytest.fixture
def documented(params_file: Path) -> dict[str, Any]:
    """The code's defaults, and the parts that the repository's own world has: which data a repository tracks
    is no default of the code."""
    world = next(iter(load_params(params_file).worlds.values()))
    parts = dict(item.split("=", 1) for item in world.settings)
    assert all(key.startswith("data.") for key in parts) and parts.keys() <= DEFAULTS.keys()
    return {**DEFAULTS, **parts}


def test_the_file_names_every_key_and_no_other(params_file: Path) -> None:
    shipped = yaml.safe_load(params_file.read_text(encoding="utf-8"))
    assert set(dict(leaves({**shipped, "worlds": {}}))) == set(DEFAULTS) and shipped["worlds"]


def test_the_file_says_the_documented_defaults(params_file: Path, documented: dict[str, Any]) -> None:
    loaded = dumped(load_params(params_file))
    assert {key: value for key, value in loaded.items() if value != documented[key]} == {}


def test_the_dump_loads_as_the_same_parameters() -> None:
    changed = parse_params({"train": {"steps": 7, "lr": 1e-4}, "mesh": {"targets": ["to_q"]}})
    dumped = yaml.safe_dump(changed.model_dump(mode="json", by_alias=True))
    assert parse_params(yaml.safe_load(dumped)) == changed


def test_the_hash_follows_every_key_of_an_erasure_and_not_the_worlds_recipe() -> None:
    base = Params().sha256()
    assert parse_params({"train": {"seed": 1}}).sha256() != base
    assert parse_params({"pretrain": {"seed": 1}}).sha256() == base
    assert parse_params({}).sha256() == base


def test_parameters_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Params().train.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.steps=200", "train.steps", 200),
        ("train.lr=3e-3", "train.lr", 3e-3),  # YAML 1.1 alone reads this as text
        ("train.lr=0.001", "train.lr", 1e-3),
        ("sampler.prompt=a photo of a {concept}", "sampler.prompt", "a photo of a {concept}"),
        ("sampler.prompt='a {concept} = b'", "sampler.prompt", "a {concept} = b"),
        ("checks.licences=[MIT]", "checks.licences", ["MIT"]),
        ("register.experiment=mine", "register.experiment", "mine"),
        ("pretrain.unet.steps=9", "pretrain.unet.steps", 9),
        (" train.steps =5", "train.steps", 5),
    ],
)
def test_an_override_changes_its_key_and_nothing_else(
    params_file: Path, documented: dict[str, Any], override: str, key: str, value: Any
) -> None:
    loaded = dumped(load_params(params_file, [override]))
    assert loaded == {**documented, key: value}


def test_the_last_override_wins(params_file: Path) -> None:
    assert load_params(params_file, ["train.steps=2", "train.steps=3"]).train.steps == 3


@pytest.mark.parametrize(
    ("text", "want"), [("inf", "inf"), ("nan", "nan"), ("1_0", "1_0"), ("fade/3e-3", "fade/3e-3")]
)
def test_words_that_float_would_take_stay_words(params_file: Path, text: str, want: str) -> None:
    assert load_params(params_file, [f"register.experiment='{text}'"]).register_.experiment == want


WRONG = {
    "misspelt key": ("train.stpes=3", "unknown key train.stpes.", "did you mean train.steps?"),
    "misspelt section": ("trian.steps=3", "unknown key trian.", "did you mean train?"),
    "misspelt key two levels down": (
        "pretrain.unet.step=3",
        "unknown key pretrain.unet.step.",
        "did you mean pretrain.unet.steps?",
    ),
    "the name in the code": ("register_.experiment=x", "unknown key register_.", "did you mean register?"),
    "a word for a number": ("train.steps=many", "train.steps = 'many'", "correct train.steps."),
    "a fraction for a whole": ("train.steps=2.5", "train.steps = 2.5", "correct train.steps."),
    "a switch for a number": ("train.steps=true", "train.steps = True", "correct train.steps."),
    "a list for a number": ("train.steps=[1]", "train.steps = [1]", "correct train.steps."),
    "a number for a section": ("train=5", "train = 5", "correct train."),
    "steps 0": ("train.steps=0", "train.steps = 0", "greater than or equal to 1"),
    "rank 0": ("mesh.rank=0", "mesh.rank = 0", "greater than or equal to 1"),
    "negative weight": ("method.erase_weight=-1", "method.erase_weight = -1", "greater than or equal to 0"),
    "weight that is no number": ("method.erase_weight=.nan", "method.erase_weight = nan", "finite"),
    "rate without end": ("train.lr=.inf", "train.lr = inf", "finite"),
    "no neighbours": ("neighborhood.k=0", "neighborhood.k = 0", "greater than or equal to 1"),
    "unknown choice": ("sampler.scheduler=dimm", "sampler.scheduler = 'dimm'", "'ddim'"),
    "prompt without its slot": (
        "sampler.prompt=a panda",
        "prompt needs the slot {concept}",
        "correct sampler.",
    ),
    "prompt with a second slot": (
        "sampler.prompt='a {concept} by {artist}'",
        "and no other",
        "correct sampler.",
    ),
    "prompt with half a slot": ("sampler.prompt='a {concept} {'", "stray brace", "correct sampler."),
    "attack budget 0": (
        "attack.budget=0",
        "attack.budget = 0",
        "greater than or equal to 1",
        "correct attack.budget.",
    ),
    "attack budget too small for a step": (
        "attack.budget=47",
        "attack.budget = 47",
        "at least 48 UNet calls",
        "correct attack.budget.",
    ),
    "no attack": ("attack.names=[]", "attack.names = []", "correct attack.names."),
    "a time beyond the schedule": (
        "attack.times=[0.3, 1.5]",
        "attack.times.1 = 1.5",
        "less than or equal to 1",
    ),
    "shares that are no equal parts": (
        "judge.processes=3",
        "whole.batch_size = 32 is no multiple of processes = 3",
        "correct judge.",
    ),
    "no equals sign": ("train.steps", "'train.steps' is no section.key=value.", "--set train.steps=200"),
    "no key": ("=3", "'=3' is no section.key=value.", "--set"),
    "an empty part": ("train..steps=3", "'train..steps=3' is no section.key=value.", "--set"),
    "below a number": ("train.steps.x=1", "steps of train.steps.x is no section.", "see params.yaml"),
    "broken value": ("train.steps=[", "the value of train.steps cannot be read", "quote it."),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_override_is_named_with_what_to_do(params_file: Path, case: str) -> None:
    override, *said = WRONG[case]
    with pytest.raises(ConfigError) as caught:
        load_params(params_file, [override])
    sentence = str(caught.value)
    assert (
        sentence.startswith("config: ") and " Next: " in sentence and all(part in sentence for part in said)
    ), sentence
    assert caught.value.exit_code == 2


FILES = {
    "misspelt key": ("train:\n  stpes: 3\n", "unknown key train.stpes.", "did you mean train.steps?"),
    "wrong type": ("train:\n  steps: many\n", "train.steps = 'many'"),
    "no mapping": ("- train\n", "holds no mapping"),
    "section without keys": ("train: 5\n", "train = 5"),
    "broken YAML": ("train: [\n", "cannot be read"),
    "code in YAML": ("train: !!python/object/apply:os.getcwd []\n", "cannot be read"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_wrong_file_is_named(tmp_path: Path, case: str) -> None:
    text, *said = FILES[case]
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_params(path)
    assert "mine.yaml" in str(caught.value) and all(part in str(caught.value) for part in said), str(
        caught.value
    )
    assert path.read_text() == text


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml does not exist\. Next: .*--params"):
        load_params(tmp_path / "gone.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"sampler:\n  prompt: \xe9 {concept}\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml cannot be read"):
        load_params(tmp_path / "latin.yaml")


def test_a_section_left_out_takes_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "short.yaml").write_text("train:\n  steps: 9\n")
    (tmp_path / "empty.yaml").write_text("")
    assert load_params(tmp_path / "short.yaml") == parse_params({"train": {"steps": 9}})
    assert load_params(tmp_path / "empty.yaml") == Params()


def test_some_keys_of_a_section_are_enough(tmp_path: Path) -> None:
    """A training's section has no defaults of its own; a project's file may name one key of it, or none."""
    file = tmp_path / "params.yaml"
    file.write_text("pretrain:\n  unet:\n    lr: 1.0e-3\n", encoding="utf-8")
    params = load_params(file, ["judge.scratch.steps=7"])
    default = Params()
    assert (params.pretrain.unet.lr, params.judge.scratch.steps) == (1e-3, 7)
    assert params.pretrain.unet.steps == default.pretrain.unet.steps
    assert params.judge.scratch.batch_size == default.judge.scratch.batch_size
    assert params.pretrain.text == default.pretrain.text
