"""The plan comes from the registry and params.yaml; tuned and reported targets never meet; the budget of
tuning is the same for all."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.benchmark.plan import (
    Cell,
    Condition,
    every_condition,
    narrowed,
    parse_condition,
    plan_of,
    settings_of,
    tries_of,
)
from fade.benchmark.tuning import edges
from fade.config import BenchConfig
from fade.data.vocabulary import Concept, Vocabulary, slug
from fade.erasers.base import known_erasers
from fade.errors import ConfigError, FadeError, UnknownNameError, UsageError
from fade.run.resolve_params import load_params, resolve


@pytest.fixture
def params_file(repo: Path) -> Path:
    return repo / "params.yaml"


def vocabulary(*names: str) -> Vocabulary:
    return Vocabulary(tuple(Concept(name, "") for name in names))


def test_every_registered_variant_is_an_arm_and_each_that_can_has_its_control() -> None:
    conditions = every_condition()
    assert {(a.name, a.variant) for a in conditions if not a.neighbours} == {
        (n, v) for n, some in known_erasers().items() for v in some
    }
    controls = [condition for condition in conditions if condition.neighbours]
    assert {condition.name for condition in controls} >= {
        "esd",
        "surgical",
        "uce",
        "ablation",
    } and "fade" not in {condition.name for condition in controls}
    files = {slug(condition.label) for condition in conditions}
    assert len(files) == len(conditions), "two conditions would share their files"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("esd", "esd/x"),
        ("esd/u", "esd/u"),
        ("esd+neighbours", "esd/x + neighbours"),
        (" uce + neighbours", "uce/keys-values + neighbours"),
    ],
)
def test_an_arm_is_read_as_it_is_written(text: str, label: str) -> None:
    assert parse_condition(text).label == label and parse_condition(
        parse_condition(text).label
    ) == parse_condition(text)


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("edx", UnknownNameError, "unknown method 'edx'"),
        ("esd/y", UnknownNameError, "unknown variant 'y'"),
        ("fade + neighbours", UsageError, "takes no neighbours"),
        ("esd + friends", UsageError, "is no condition"),
    ],
)
def test_an_arm_that_is_none_is_named(text: str, error: type[FadeError], said: str) -> None:
    with pytest.raises(error, match=said):
        parse_condition(text)


def test_cells_compare_all_arms_before_the_next_target_and_seed(params_file: Path) -> None:
    bench = load_params(params_file).bench
    plan = plan_of(bench, None)
    cells = list(plan.cells())
    assert len(cells) == len(plan) == len(set(cells))
    assert {cell.condition for cell in cells[: len(plan.conditions)]} == set(plan.conditions)
    assert {cell.seed for cell in cells[: len(plan.conditions) * 9]} == {bench.seeds[0]}


def test_what_no_seed_decides_is_measured_once(params_file: Path) -> None:
    plan = plan_of(
        load_params(params_file, ["bench.methods=[uce, uce + neighbours, speed, esd]"]).bench, None
    )
    seeds = {c.label: [cell.seed for cell in plan.cells() if cell.condition == c] for c in plan.conditions}
    once = {"uce/keys-values", "uce/keys-values + neighbours"}
    assert {label for label, own in seeds.items() if own == [0] * 9} == once
    assert all(sorted(set(own)) == [0, 1, 2] for label, own in seeds.items() if label not in once)
    assert len(plan) == sum(map(len, seeds.values())) == 9 * (1 + 1 + 3 + 3)


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("esd/x", "nothing"),
        ("esd/x + neighbours", "the neighbours"),
        ("fade/paper", "the neighbours"),
        ("ablation/broader + neighbours", "the neighbours, the family's name"),
        ("speed", "the neighbours, words that name no judged concept"),
    ],
)
def test_an_arm_says_what_it_is_given(text: str, given: str) -> None:
    assert parse_condition(text).given == given


def test_a_concept_that_is_not_there_is_refused(params_file: Path) -> None:
    bench = load_params(params_file).bench
    plan_of(bench, vocabulary(*bench.targets, *bench.tuning))
    with pytest.raises(UnknownNameError, match="unknown concept 'lemon'"):
        plan_of(bench, vocabulary(*(n for n in bench.targets if n != "lemon"), *bench.tuning))
    with pytest.raises(UnknownNameError, match="unknown concept 'blue heart'"):
        plan_of(bench, vocabulary(*bench.targets, "kissing cat"))


OVERLAPS = {
    "the same name": "bench.tuning=[panda]",
    "written otherwise": "bench.tuning=[PANDA]",
    "with other blanks": "bench.tuning=['police  car']",
    "reported twice": "bench.targets=[panda, Panda]",
    "tuned on twice": "bench.tuning=[pear, pear]",
    "nothing reported": "bench.targets=[]",
    "a seed twice": "bench.seeds=[1, 1]",
    "no seed": "bench.seeds=[]",
    "an unequal budget": "bench.sweep.esd=[train.lr=1e-3]",
    "a setting twice": "bench.sweep={default: [a=1, a=1], neighbours: [a=1, a=2]}",
    "no default": "bench.sweep={neighbours: [a=1]}",
}


@pytest.mark.parametrize("case", OVERLAPS)
def test_a_dishonest_plan_is_refused(params_file: Path, case: str) -> None:
    with pytest.raises(ConfigError, match="bench"):
        load_params(params_file, [OVERLAPS[case]])


def test_control_an_honest_change_of_it_is_not(params_file: Path) -> None:
    assert load_params(params_file, ["bench.tuning=[koala]"]).bench.tuning == ("koala",)


def test_no_reported_target_is_tuned_on() -> None:
    bench = BenchConfig()
    assert not {slug(n) for n in bench.targets} & {slug(n) for n in bench.tuning}


def test_every_arm_is_tuned_with_the_same_number_of_settings(params_file: Path) -> None:
    sweep = load_params(params_file).bench.sweep
    assert {len(tries_of(condition, sweep)) for condition in every_condition()} == {5}


def test_every_sweep_has_an_inside(params_file: Path) -> None:
    """One knob has five values in each, all else is fixed: a best that is not at its edge can be found."""
    sweep = load_params(params_file).bench.sweep
    for condition in every_condition():
        tries = [dict(item.split("=") for item in one) for one in tries_of(condition, sweep)]
        varied = [knob for knob in tries[0] if len({one[knob] for one in tries}) > 1]
        assert len(varied) == 1 and len({float(one[varied[0]]) for one in tries}) == 5, condition.label


def test_a_best_at_the_edge_of_any_arm_s_sweep_is_named_and_one_inside_is_not(params_file: Path) -> None:
    sweep = load_params(params_file).bench.sweep
    for condition in every_condition():
        tries = tries_of(condition, sweep)
        (knob,) = {item.split("=")[0] for item in set(tries[0]) - set(tries[1])}
        ordered = sorted(tries, key=lambda one: float(dict(item.split("=") for item in one)[knob]))
        for place, best in enumerate(ordered):
            trials = [{"overrides": one, "score": 90.0 if one == best else 80.0} for one in ordered]
            found = edges({"overrides": best, "score": 90.0, "trials": trials})
            assert set(found) == ({knob} if place in (0, 4) else set()), condition.label


@pytest.mark.parametrize("name", sorted(BenchConfig().sweep))
def test_every_setting_of_the_sweep_loads_and_is_another(params_file: Path, name: str) -> None:
    tries = [text.split() for text in BenchConfig().sweep[name]]
    own = [] if name in ("default", "neighbours") else parse_condition(name).overrides()
    seen = {
        resolve(params_file, [*own, *setting]).model_dump_json(exclude={"bench", "pretrain"})
        for setting in tries
    }
    assert len(seen) == len(tries)


def test_the_sweep_of_an_arm_is_the_nearest_there_is() -> None:
    sweep = {
        "default": ("a=1",),
        "esd": ("b=1",),
        "esd/u": ("c=1",),
        "neighbours": ("d=1",),
        "uce + neighbours": ("e=1 f=2",),
    }
    found = [
        tries_of(parse_condition(text), sweep)
        for text in ("fade", "esd/x", "esd/u", "esd/u + neighbours", "uce + neighbours")
    ]
    assert found == [[["a=1"]], [["b=1"]], [["c=1"]], [["d=1"]], [["e=1", "f=2"]]]


@pytest.mark.parametrize("written", ["fade/official", "fade/release"])
@pytest.mark.parametrize("meant", ["fade/official", "fade/release"])
def test_a_sweep_holds_for_a_variant_by_either_of_its_names(written: str, meant: str) -> None:
    sweep = {"default": ("a=1",), written: ("b=1",), "neighbours": ("c=1",)}
    assert tries_of(parse_condition(meant), sweep) == [["b=1"]]


def test_what_the_user_sets_wins_over_what_was_tuned_and_that_over_the_recipe(params_file: Path) -> None:
    cell = Cell(Condition("fade", "official"), "panda", 7)
    assert (
        (s := settings_of(cell, (), params_file, ())).train.steps == 500
        and s.train.seed == 7
        and s.method.variant == "official"
    )
    assert settings_of(cell, ("train.steps=9",), params_file, ()).train.steps == 9
    assert settings_of(cell, ("train.steps=9",), params_file, ("train.steps=3",)).train.steps == 3
    anchored = settings_of(Cell(Condition("esd", "x", True), "panda", 0), (), params_file, ())
    assert anchored.method.anchors == "neighbourhood" and anchored.mesh.targets == ("cross",)


def test_the_command_lines_choice_is_an_override(params_file: Path) -> None:
    bench = load_params(params_file).bench
    quick = load_params(params_file, narrowed(quick=True, bench=bench)).bench
    assert (quick.targets, quick.seeds) == (bench.targets[:1], bench.seeds[:1])
    assert [condition.variant for condition in plan_of(quick, None).conditions] == [
        variants[0] for variants in known_erasers().values()
    ]
    some = load_params(
        params_file, narrowed(bench=bench, methods="esd/x + neighbours, uce", targets="lemon", seeds="0, 4")
    ).bench
    assert (some.methods, some.targets, some.seeds) == (("esd/x + neighbours", "uce"), ("lemon",), (0, 4))
    with pytest.raises(ConfigError, match=r"blue-heart is tuned on"):
        load_params(params_file, narrowed(bench=bench, targets="blue heart"))
    with pytest.raises(ConfigError, match=r"bench.seeds"):
        load_params(params_file, narrowed(bench=bench, seeds="one"))
    assert narrowed(bench=bench) == []
