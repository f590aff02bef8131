"""Every field of params.yaml declares what it decides, and the keys of runs follow the declaration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

import fade.erasers  # noqa: F401 (registers the knobs of the section method)
from fade.config import Affects, MethodConfig, Params, Section
from fade.config.section import Effect
from fade.run.context import RunContext
from fade.utils.hashing import fingerprint

Field = tuple[tuple[str, ...], FieldInfo, Affects]


def fields(section: type[Section], at: tuple[str, ...] = (), outer: Affects | None = None) -> Iterator[Field]:
    """Path, field and effect of every value of a section; fails for a field of which nothing declares the
    effect."""
    known = section.knobs() if section is MethodConfig else {}
    for name, field in {**section.model_fields, **known}.items():
        own = [entry for entry in field.metadata if isinstance(entry, Affects)]
        assert own or outer, f"{'.'.join((*at, name))} declares no effect, and neither does its section"
        effect = own[0] if own else outer
        assert outer is None or outer.reaches(effect.what), f"{name} decides more than its section"
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from fields(field.annotation, (*at, name), effect)
        else:
            yield (*at, name), field, effect


FIELDS = {".".join(at): (at, field, effect) for at, field, effect in fields(Params)}


def another(value: Any, annotation: Any) -> Any:
    """A further valid value of a field."""
    if get_origin(annotation) is Literal:
        return next(choice for choice in get_args(annotation) if choice != value)
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, Path | None):
        return Path("elsewhere", value or "")
    if isinstance(value, tuple) and Ellipsis not in get_args(annotation):  # as many items as it declares
        return (*value[:-1], value[-1] / 2 or 0.5)
    if isinstance(value, tuple):
        return (*value, another(value[0], None) if value else "x")
    if isinstance(value, dict):
        return {**value, "esd": ("mesh.rank=2",)}
    return value + 1 if isinstance(value, int) else value * 0.9 or 0.5


def changed(section: Any, at: tuple[str, ...], field: FieldInfo) -> Any:
    value = getattr(section, at[0])
    new = changed(value, at[1:], field) if len(at) > 1 else another(value, field.annotation)
    assert new != value
    return section.model_copy(update={at[0]: new})


def run_key(params: Params) -> str:
    run = RunContext(params, "panda", Path("runs"))
    model = SimpleNamespace(sha256="0")
    run.models.__dict__.update(base=model, judge=model, encoder=model, sha256=lambda role: role)
    run.__dict__["vocabulary"] = SimpleNamespace(names=("panda",))
    return run.key


@pytest.mark.parametrize("name", FIELDS)
def test_a_run_key_follows_what_a_field_declares(name: str) -> None:
    at, field, effect = FIELDS[name]
    before, after = Params(), changed(Params(), at, field)
    assert (run_key(before) != run_key(after)) == effect.reaches("evaluation")
    for result in get_args(Effect)[1:]:
        follows = fingerprint(before.key_fields(result)) != fingerprint(after.key_fields(result))
        assert follows == effect.reaches(result), result


def test_the_declarations_are_not_all_alike() -> None:
    """The control of the test above."""
    assert {effect.what for _, _, effect in FIELDS.values()} == set(get_args(Effect))
    nothing = {name for name, (_, _, effect) in FIELDS.items() if effect.what == "nothing"}
    assert {"train.checkpoint_every", "evaluate.grid_images", "data.remote", "pretrain.unet.steps"} <= nothing
    assert not nothing & {"train.lr", "data.base", "sampler.prompt", "evaluate.seed", "method.erase_weight"}


def test_the_key_of_a_run_of_an_earlier_version_holds() -> None:
    """Then every key of the sections counted, those without an effect, too; the base was float32, losses
    were in the network's own output, one judge judged, one form of prompts, guidance at all times."""
    beside = {"attack", "audit", "bench", "checks", "gate", "judge", "model", "nudity", "pretrain", "purify"}
    beside |= {"register_", "release", "schedule", "self_test", "settings", "signing", "styles", "worlds"}
    one_judge = Params.model_validate({"data": {"second_judge": ""}})
    fields = one_judge.model_dump(mode="json", by_alias=True, exclude=beside)
    del fields["train"]["loss_in"], fields["data"]["second_judge"]
    del fields["sampler"]["guidance_interval"]
    for key in ("sentences", "pairs", "prompt_images", "prompts_known", "real_pictures"):
        del fields["evaluate"][key]
    assert one_judge.run_fields() == fields


def test_any_section_leaves_out_what_decides_nothing_at_any_depth() -> None:
    class Inner(Section):
        lr: float = 1.0
        log_every: Annotated[int, Affects("nothing")] = 3

    class Outer(Section):
        out: Annotated[Path, Affects("nothing")]
        judge: Annotated[str, Affects("evaluation")] = "a"
        inner: Inner = Inner()

    outer = Outer(out=Path("x"))
    assert outer.key_fields("training") == {"inner": {"lr": 1.0}}
    assert outer.key_fields("evaluation") == {"judge": "a", "inner": {"lr": 1.0}}
