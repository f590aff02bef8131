"""What a protocol would run with, and what of it is missing here, before anything is started. No torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fade.errors import DataError, UsageError
from fade.evaluation.protocols import CONFIGURED, STAGE, Part, Protocol, amended, overrides_of
from fade.models.hub import is_hub_id
from fade.run.context import RunContext
from fade.run.resolve_params import override, override_path, resolve
from fade.utils.files import read_json

SD1 = {"cross_attention_dim": 768, "sample_size": 64}
"""Configuration of the UNet of Stable Diffusion 1.x; which version it is stands in no file."""
NAMED = 3
"""Names of a list that a sentence shows."""


@dataclass(frozen=True)
class Missing:
    """Something that a protocol needs and that is not here."""

    part: str
    what: str
    supply: str
    """What the user is to do."""


@dataclass(frozen=True)
class Inputs:
    """What the user gives beside the protocol."""

    params_file: Path
    runs: Path
    overrides: tuple[str, ...] = ()
    """``--set``, and what ``--world`` stands for: wins over the protocol."""
    model: str = ""
    prompts: Path | None = None

    def settings(self, protocol: Protocol, part: Part | None) -> list[str]:
        """All overrides of a part's runs."""
        return [*overrides_of(protocol, part), *self.overrides]

    def context(self, protocol: Protocol, part: Part | None, target: str = "") -> RunContext:
        """A run of the part. Raises as `resolve`."""
        params = resolve(self.params_file, self.settings(protocol, part))
        return RunContext(params, target, self.runs, self.params_file.parent)


def with_overrides(protocol: Protocol, overrides: Sequence[str]) -> Protocol:
    """The protocol with what the user set, as *ours*. Raises ConfigError for a text that sets nothing."""
    changes: dict[str, Any] = {}
    for item in overrides:
        path, raw = override_path(item), dict[str, Any]()
        override(raw, item)
        value: Any = raw
        for name in path:
            value = value[name]
        changes[".".join(path)] = value
    return amended(protocol, changes)


def plan(protocol: Protocol, inputs: Inputs) -> dict[str, Any]:
    """`Protocol.to_json` with the user's changes, and ``missing``: part, what, supply. Raises as
    `resolve`."""
    if protocol.flow == "nudity":
        missing = _missing_of_nudity(protocol, inputs)
    else:
        missing = [one for part in protocol.parts for one in _missing_of(protocol, part, inputs)]
    unique = list(dict.fromkeys(missing))
    return {**protocol.to_json(), "missing": [asdict(one) for one in unique]}


def require_all(planned: dict[str, Any]) -> None:
    """Raises UsageError that names the first thing that is missing."""
    if missing := planned["missing"]:
        more = f" ({len(missing) - 1} more are missing: `fade protocol {planned['name']} --plan`)"
        what = f"{planned['name']}: {missing[0]['what']}{more if missing[1:] else ''}."
        raise UsageError(what, stage=STAGE, action=f"{missing[0]['supply']}.")


def _missing_of(protocol: Protocol, part: Part, inputs: Inputs) -> list[Missing]:
    run = inputs.context(protocol, part)
    relaxed = part.name == CONFIGURED or _sets(inputs, "data.base")
    found = [_missing_targets(part), _missing_base(run, protocol, part, relaxed=relaxed)]
    found += _missing_pictures(run, part)
    return [one for one in found if one is not None]


def _missing_targets(part: Part) -> Missing | None:
    if not part.unknown:
        return None
    known = f"{part.unknown} of its {part.count} targets are" if part.targets else "its targets are"
    named = "" if part.name == "genmu" else f" --part {part.name}"
    return Missing(part.name, f"{part.title}: {known} not known here", f"name them: --targets A,B{named}")


def _missing_base(run: RunContext, protocol: Protocol, part: Part | None, *, relaxed: bool) -> Missing | None:
    name = part.name if part else ""
    where = run.models.local(run.params.data.base)
    supply = f"name the weights of {protocol.base} with --set data.base=FOLDER"
    if run.params.data.base_config or is_hub_id(where):
        return None  # read, or fetched, when a run begins
    config = read_json(Path(where) / "unet" / "config.json")
    if not isinstance(config, dict) and not (relaxed and (Path(where) / "model_index.json").is_file()):
        return Missing(name, f"the weights of {protocol.base}: {where} holds none", supply)
    if relaxed or all(config.get(key) == value for key, value in SD1.items()):
        return None
    return Missing(name, f"the weights of {protocol.base}: {where} is another model", supply)


def _missing_pictures(run: RunContext, part: Part) -> list[Missing]:
    """The data set, its concepts, and a judge that knows them."""
    images = run.params.data.images
    title = part.title if part.name != CONFIGURED else "the data set"
    try:
        names = run.vocabulary.names
    except DataError as error:
        command = f"`fade data import {part.name} ARCHIVE --out {images}`"
        other = "name a folder with a manifest.csv: --set data.images=FOLDER"
        supply = other if part.name == CONFIGURED else f"{command}, or {other}"
        what = f"the pictures of {title}: {error.what.removesuffix('.')}"
        pictures = Missing(part.name, what, supply)
        return [pictures, *_missing_judge(run, part, ())]
    out = []
    if unknown := [target for target in part.targets if target not in names]:
        what = f"{_listed(unknown)} in the vocabulary of {images}"
        out.append(Missing(part.name, what, "name concepts of it with --targets A,B"))
    if run.params.data.erase == "styles":
        return out
    return [*out, *_missing_judge(run, part, names)]


def _missing_judge(run: RunContext, part: Part, names: Sequence[str]) -> list[Missing]:
    judge, labels = run.params.data.judge, run.labels()
    train = f"`fade judge train {run.params.data.images} --out {judge}`"
    supply = f"{train}, or name a classifier with these labels: --set data.judge=FOLDER"
    if labels is None:
        return [Missing(part.name, f"a judge of {part.title}: {judge} is none", supply)]
    if unknown := [name for name in (*part.targets, *names) if name not in labels]:
        return [Missing(part.name, f"{_listed(unknown)} among the labels of {judge}", supply)]
    return []


def _missing_of_nudity(protocol: Protocol, inputs: Inputs) -> list[Missing]:
    run = inputs.context(protocol, None)
    base = _missing_base(run, protocol, None, relaxed=_sets(inputs, "data.base"))
    out = [] if base is None else [base]
    if importlib.util.find_spec("nudenet") is None:
        out.append(Missing("", "the detector NudeNet", "pip install -e '.[nudity]' (NudeNet is AGPL-3.0)"))
    if inputs.prompts is None or not inputs.prompts.is_file():
        what = f"the prompts of I2P{'' if inputs.prompts is None else f': {inputs.prompts} is no file'}"
        out.append(Missing("", what, "name i2p_benchmark.csv, or its import, with --prompts FILE"))
    if not inputs.model:
        out.append(Missing("", "an erased model", "name one with --model NAME/VERSION or an adapter file"))
    return out


def _sets(inputs: Inputs, key: str) -> bool:
    return any(".".join(override_path(item)) == key for item in inputs.overrides)


def _listed(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - NAMED} more" if len(unique) > NAMED else ""
    verb = "are" if len(unique) > 1 else "is"
    return f"{', '.join(map(repr, unique[:NAMED]))}{more} {verb} not"
