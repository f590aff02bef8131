"""What a model directory must look like before a weight of it is read: complete, of a supported class, and
without code of its own. Base, CLIP and judge alike; no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fade.errors import BaseModelError
from fade.models.classes import unsupported
from fade.models.hub import fetch, is_hub_id
from fade.models.identity import content_sha256, directory_sha256
from fade.models.judge_checks import check_judge, refuse_timm
from fade.models.part_files import (
    PICKLES,
    UNQUANTISED,
    Find,
    PartFiles,
    in_folder,
    select_files,
    tokenizer_files,
)
from fade.models.single_file import check_schedule, part_prefixes, refuse_file, split
from fade.utils.notes import note
from fade.utils.parsing import MalformedError, parse_json
from fade.utils.reading import RECORD, check_regular, read_text

_IGNORED = {*PICKLES, ".msgpack", ".h5", ".npy", ".npz", ".onnx", ".onnx_data", ".pb", ".ot", ".gguf"}
"""Weights in formats that are never opened; OpenVINO's are .bin, too."""
_ONCE_REFUSED = {*PICKLES, ".msgpack", ".h5", ".npy", ".py"}
"""Earlier versions refused a directory with one of these: it has no hash of theirs."""
BASE, CLIP, JUDGE, SECOND_JUDGE = "base", "clip", "judge", "second_judge"
"""Roles of models: data.base ...; also the stages of their errors. The last is a JUDGE, too, and optional."""
_KINDS = {CLIP: "CLIPModel", JUDGE: "AutoModelForImageClassification"}
_MODEL_TYPES = {
    "CLIPTextModel": "clip_text_model",
    "CLIPTextModelWithProjection": "clip_text_model",
    "T5EncoderModel": "t5",
    "CLIPModel": "clip",
}
_SD = {
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "tokenizer": "CLIPTokenizer",
    "scheduler": "DDPMScheduler",
}
_SDXL = {
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": "CLIPTextModelWithProjection",
    "tokenizer": "CLIPTokenizer",
    "tokenizer_2": "CLIPTokenizer",
    "scheduler": "DDPMScheduler",
}
_SD3 = {
    "transformer": "SD3Transformer2DModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModelWithProjection",
    "text_encoder_2": "CLIPTextModelWithProjection",
    "text_encoder_3": "T5EncoderModel",
    "tokenizer": "CLIPTokenizer",
    "tokenizer_2": "CLIPTokenizer",
    "tokenizer_3": "T5TokenizerFast",
    "scheduler": "FlowMatchEulerDiscreteScheduler",
}
_FLUX = {
    "transformer": "FluxTransformer2DModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": "T5EncoderModel",
    "tokenizer": "CLIPTokenizer",
    "tokenizer_2": "T5TokenizerFast",
    "scheduler": "FlowMatchEulerDiscreteScheduler",
}
PIPELINES: dict[str, dict[str, str]] = {
    "StableDiffusionPipeline": _SD,
    "StableDiffusionXLPipeline": _SDXL,
    "StableDiffusion3Pipeline": _SD3,
    "FluxPipeline": _FLUX,
}
"""Class of diffusers' pipeline -> its parts, each with the one class that is loaded from its folder. A family
(a file of this folder) is registered for each; what it supports: `fade.models.classes`."""
OPTIONAL = ("text_encoder_3", "tokenizer_3")
"""Parts that a pipeline may lack, all of them or none: SD3 without T5."""
CODE_KEYS = ("auto_map", "custom_pipelines")
"""Keys by which a configuration names Python code beside it or on a hub."""
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""Options of every ``from_pretrained``: no network, no code of the model's own."""
_LIBRARIES = ("diffusers", "transformers")
_NAMED = 3
"""Ignored files that are named one by one."""
_HELP = (
    "pull the data (`fade pull`), or name a directory in diffusers' layout with safetensors weights in "
    "data.base."
)


def _fault(what: str, action: str = _HELP, stage: str = BASE) -> BaseModelError:
    return BaseModelError(what, stage=stage, action=action)


def resolve(where: str, role: str = BASE) -> Path:
    """Where a model lies: the directory ``where`` itself; that of a hub id (``owner/name``, better
    ``owner/name@revision``), of which the files that are read are fetched; ``FILE.safetensors@DIRECTORY`` as
    it is (`fade.models.single_file`). Raises BaseModelError when nothing is there, or when the hub cannot be
    reached."""
    if single := split(where):
        file, config = single
        if not file.is_file() or not config.is_dir():
            missing, kind = (config, "directory") if file.is_file() else (file, "file")
            what = f"{missing} is no {kind}." if missing.exists() else f"{missing} is not there."
            raise _fault(what, "correct data.base or data.base_config.", role)
        return Path(where)
    refuse_file(where, role)
    if not is_hub_id(where):
        path = Path(where)
        if not path.is_dir():
            raise _fault(f"{where} is not there.", stage=role)
        return path
    action = "name a local directory, or check the network and HF_HUB_OFFLINE."
    return fetch(where, role, lambda find: select_parts(find, role, where), action)


def _finder(home: Path) -> Find:
    single = split(home)
    return in_folder(single[1] if single else home)


def pipeline_class(path: Path) -> str:
    """The class of diffusers' pipeline that the directory names; one that names none is of the first of
    `PIPELINES`. Raises BaseModelError for one that is not loaded here."""
    return _pipeline(_finder(path), str(path))[0]


def pipeline_index(path: Path) -> dict[str, Any]:
    """The content of ``model_index.json``. Raises as `pipeline_class`."""
    return _pipeline(_finder(path), str(path))[1]


def _pipeline(find: Find, where: str) -> tuple[str, dict[str, Any]]:
    if (file := find("model_index.json")) is None:
        if single := split(where):
            action = "name the file's family's directory in diffusers' layout in data.base_config."
            raise _fault(f"{single[1]}/model_index.json is missing.", action)
        raise _fault(f"{where}/model_index.json is missing.")
    index = read_config(file)
    name = str(index.get("_class_name", next(iter(PIPELINES))))  # diffusers allows a list, too
    if name not in PIPELINES:
        what = f"{file} names the pipeline {name[:80]!r}, none that is loaded here"
        raise _fault(f"{what} ({', '.join(PIPELINES)}).")
    return name, index


def select_parts(find: Find, role: str, where: str) -> tuple[PartFiles, ...]:
    """The files of a model that are read, by part. Raises BaseModelError that names what is missing."""
    if role != BASE:
        part = select_files(find, "", _KINDS[role], role, where)
        extra = ["preprocessor_config.json"]
        extra += ["tokenizer_config.json"] if role == CLIP else []
        words = tokenizer_files(find, "", role, where) if role == CLIP else ()
        return (replace(part, configs=(*part.configs, *filter(None, map(find, extra)), *words)),)
    name, index = _pipeline(find, where)
    absent = {part for part in PIPELINES[name] if library_of(index, part) is None}
    if absent and absent != set(OPTIONAL):
        what = f"{where}/model_index.json leaves out {', '.join(sorted(absent))}"
        why = f"only SD3 may lack parts, {' and '.join(OPTIONAL)} together"
        raise _fault(f"{what}; {why}.", "fetch the whole model, with all of its parts.")
    kinds = {part: kind for part, kind in PIPELINES[name].items() if part not in absent}
    for folder in kinds:
        if (library := library_of(index, folder)) not in _LIBRARIES:
            what = f"{where}/model_index.json: {folder} is of {str(library)[:80]!r}"
            raise _fault(f"{what}, not of {' or '.join(_LIBRARIES)}.")
    if single := split(where):
        held = part_prefixes(*single, name, kinds)
        return tuple(
            select_files(find, part, kind, role, str(single[1]), (single[0], held.get(part)))
            for part, kind in kinds.items()
        )
    return tuple(select_files(find, part, kind, role, where) for part, kind in kinds.items())


def library_of(index: dict[str, Any], part: str) -> Any:
    """The library that ``model_index.json`` names for a part; None for a part that is left out."""
    entry = index.get(part)
    return entry[0] if isinstance(entry, list) and entry else entry


def files_of(home: Path, role: str) -> tuple[PartFiles, ...]:
    """`select_parts` of a model that lies at ``home``."""
    return select_parts(_finder(home), role, str(home))


def check_model(home: Path, role: str, *, labels: bool = True) -> tuple[PartFiles, ...]:
    """The files of a model's directory that are read. Raises BaseModelError that names the file, part or
    class for one that is incomplete, unsupported or refused; with ``labels``: a judge's are told apart."""
    single = split(home)
    refuse_unsafe_files(single[1] if single else home, role)
    parts = files_of(home, role)
    configs = {}
    for part in parts:
        config = configs[part.name] = read_config(part.configs[0], role)
        if part.weights:
            _check_class(part, config, role)
            part.tensors(role)  # its heads
    if role == JUDGE and labels:
        check_judge(parts[0].configs[0], configs[""])
    if single:
        check_schedule(*single, configs["scheduler"])
    if role == BASE and (fault := unsupported(pipeline_class(home), configs)):
        raise _fault(f"{home}: {fault}", "name another model in data.base.")
    return parts


def _check_class(part: PartFiles, config: dict[str, Any], role: str) -> None:
    """By the configuration's own words, where it has them. What would make transformers load other files than
    are hashed is refused."""
    file, kind = part.configs[0], part.kind
    if kind == _KINDS[JUDGE]:
        refuse_timm(file, config)
    if config.get("quantization_config"):
        raise _fault(f"{file} is of quantised weights (quantization_config).", UNQUANTISED, role)
    adapter, other = part.folder / "adapter_config.json", config.get("transformers_weights")
    if other or adapter.exists():
        why = f"{file} names its weights itself" if other else f"{adapter} is there"
        action = "remove it: weights are read from their usual file, without an adapter."
        raise _fault(f"{part.folder} is refused: {why}.", action, role)
    listed = config.get("architectures")
    architecture = listed[0] if isinstance(listed, list) and listed else kind
    if kind == _KINDS[JUDGE]:
        if kind.removeprefix("AutoModel") not in str(architecture):
            what = f"{file} is of the class {str(architecture)[:80]!r}, which has no classifier's head"
            raise _fault(f"{what}; supported: classes ...ForImageClassification.", "see data.judge.", role)
        return
    named = config.get("_class_name", architecture)
    model_type = config.get("model_type")
    if named == kind and model_type not in (None, _MODEL_TYPES.get(kind, model_type)):
        named = model_type
    if named != kind:
        action = f"name another model in data.{role}."
        raise _fault(f"{file} is of the class {str(named)[:80]!r}; supported: {kind}.", action, role)


def refuse_unsafe_files(path: Path, stage: str) -> None:
    """Raises BaseModelError for Python code, for what is no regular file, and for JSON that names code.
    Weights that are no safetensors are named once, and never opened."""
    ignored = []
    for file in sorted(path.rglob("*")):
        suffix = file.suffix.lower()
        if suffix == ".py":
            what = f"{file} is refused: code beside a model is never run."
            raise _fault(what, "remove the file.", stage)
        if suffix == ".json" and not file.is_dir():
            config = read_config(file, stage)
            if named := [key for key in CODE_KEYS if config.get(key)]:
                what = f"{file} is refused: its {named[0]} names code of its own, which is never run."
                action = f"use a model of {' or '.join(_LIBRARIES)} itself, without {named[0]}."
                raise _fault(what, action, stage)
        elif not file.is_dir():
            try:
                check_regular(file)
            except OSError as error:
                raise _fault(f"{file} is refused: {error}.", "remove it.", stage) from None
        if suffix in _IGNORED:
            ignored.append(file.relative_to(path).as_posix())
    if ignored:
        more = f" and {len(ignored) - _NAMED} more" if ignored[_NAMED:] else ""
        note(f"{path}: ignored, as only safetensors are read: {', '.join(ignored[:_NAMED])}{more}.")


def read_config(file: Path, stage: str = BASE) -> dict[str, Any]:
    """The mapping in a model's JSON file; empty for JSON that is none. Raises BaseModelError."""
    try:
        content = parse_json(read_text(file, RECORD), ours=False)
    except (OSError, MalformedError) as error:
        action = "compare it with a directory that diffusers or transformers saved."
        raise _fault(f"{file} cannot be read: {error}.", action, stage) from None
    return content if isinstance(content, dict) else {}


def model_sha256(home: Path, role: str) -> str:
    """The hash of a model: of what is loaded. Raises BaseModelError as `select_parts`."""
    parts = files_of(home, role)
    settings = {}
    if role == BASE:
        name, index = _pipeline(_finder(home), str(home))
        # the other parts of a pipeline (a safety checker) are lists of library and class
        settings = {key: value for key, value in index.items() if not isinstance(value, list)}
        settings["_class_name"] = name
    return content_sha256(parts, settings)


def legacy_sha256(home: Path, role: str) -> str:
    """The hash by which earlier versions name this model; "" for one that they refused. It was of all files
    of the parts, whether they are read or not."""
    if not home.is_dir() or any(file.suffix.lower() in _ONCE_REFUSED for file in home.rglob("*")):
        return ""
    return directory_sha256(home, PIPELINES[pipeline_class(home)] if role == BASE else ())
