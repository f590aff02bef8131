"""What a model directory must look like before a byte of it is loaded: complete, nothing but safetensors,
and no code of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fade.errors import BaseModelError
from fade.utils.hashing import fingerprint, sha256_of
from fade.utils.parsing import MalformedError, parse_json
from fade.utils.reading import RECORD, check_regular, read_text

_REFUSED = {".bin", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".msgpack", ".h5", ".npy", ".py"}
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
(a file of this folder) is registered for each."""
OPTIONAL = {"text_encoder_3", "tokenizer_3"}
"""Parts that a pipeline may lack: SD3 without T5."""
CODE_KEYS = ("auto_map", "custom_pipelines")
"""Keys by which a configuration names Python code beside it or on a hub."""
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""Options of every ``from_pretrained``: no network, no code of the model's own."""
_LIBRARIES = ("diffusers", "transformers")
_HELP = (
    "pull the data (`fade pull`), or name a directory in diffusers' layout with safetensors weights in "
    "data.base."
)


def _fault(what: str, action: str = _HELP, stage: str = "base") -> BaseModelError:
    return BaseModelError(what, stage=stage, action=action)


def resolve(where: str, stage: str = "base") -> Path:
    """The local directory of a model: ``where`` itself, or a hub id fetched whole (safetensors, configs,
    tokenizer only). Raises BaseModelError when it is neither, or when the hub cannot be reached."""
    path = Path(where)
    if path.exists() or where.startswith((".", "/", "data/")) or where.count("/") != 1:
        if not path.is_dir():
            raise _fault(f"{where} is not there.", stage=stage)
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    patterns = ["*.safetensors", "*.json", "*.txt"]
    try:
        return Path(snapshot_download(where, allow_patterns=patterns))
    except (LocalEntryNotFoundError, RepositoryNotFoundError, HfHubHTTPError, OSError) as error:
        what = f"{where} is no local directory and cannot be fetched: {error}."
        raise _fault(
            what, "name a local directory, or check the network and HF_HUB_OFFLINE.", stage
        ) from error


def pipeline_class(path: Path) -> str:
    """The class of diffusers' pipeline that the directory names; one that names none is of the first of
    `PIPELINES`. Raises BaseModelError for one that is not loaded here."""
    file = path / "model_index.json"
    if not file.is_file():
        raise _fault(f"{file} is missing.")
    name = str(read_config(file).get("_class_name", next(iter(PIPELINES))))  # diffusers allows a list, too
    if name not in PIPELINES:
        what = f"{file} names the pipeline {name[:80]!r}, none that is loaded here"
        raise _fault(f"{what} ({', '.join(PIPELINES)}).")
    return name


def parts_of(path: Path) -> dict[str, str]:
    """The parts that a model's directory must hold: folder -> class. Raises as `pipeline_class`."""
    parts = PIPELINES[pipeline_class(path)]
    index = read_config(path / "model_index.json")
    absent = {part for part in OPTIONAL if index.get(part, [None])[0] is None}
    return {part: kind for part, kind in parts.items() if part not in absent}


def check_pipeline(path: Path) -> None:
    """Raises BaseModelError that names the missing or refused file of a model's directory."""
    refuse_unsafe_files(path, "base")
    parts, file = parts_of(path), path / "model_index.json"
    index = read_config(file)
    for part, kind in parts.items():
        name = part.partition("_")[0] if part.startswith(("tokenizer", "scheduler")) else ""
        config = path / part / (f"{name}_config.json" if name else "config.json")
        if part not in index or not config.is_file():
            raise _fault(f"{config} is missing.")
        library = index[part][0] if isinstance(index[part], list) and index[part] else None
        if library not in _LIBRARIES:
            what = f"{file}: {part} is of {str(library)[:80]!r}, not of {' or '.join(_LIBRARIES)}."
            raise _fault(what)
        if name:
            continue
        found = read_config(config).get("_class_name", kind)
        if found != kind:
            raise _fault(f"{config} is of the class {str(found)[:80]!r}, not {kind}.")
        if not any((path / part).glob("*.safetensors")):
            raise _fault(f"{path / part} holds no safetensors weights.")


def refuse_unsafe_files(path: Path, stage: str) -> None:
    """Raises BaseModelError for any file that could run code when it is loaded, that is no regular file, or
    whose JSON names code."""
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in _REFUSED:
            what = f"{file} is refused: only safetensors weights are loaded."
            raise _fault(what, "convert the weights to safetensors and remove the file.", stage)
        if file.suffix.lower() == ".json" and not file.is_dir():
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


def read_config(file: Path, stage: str = "base") -> dict[str, Any]:
    """The mapping in a model's JSON file; empty for JSON that is none. Raises BaseModelError."""
    try:
        content = parse_json(read_text(file, RECORD), ours=False)
    except (OSError, MalformedError) as error:
        action = "compare it with a directory that diffusers or transformers saved."
        raise _fault(f"{file} cannot be read: {error}.", action, stage) from None
    return content if isinstance(content, dict) else {}


def directory_sha256(path: Path, parts: tuple[str, ...] = ()) -> str:
    """One hash of all files below ``path`` (or below its named parts): of their relative names and their
    bytes."""
    roots = [path / part for part in parts] if parts else [path]
    files = sorted(f for root in roots for f in root.rglob("*") if f.is_file())
    return fingerprint({f.relative_to(path).as_posix(): sha256_of(f) for f in files})


def base_sha256(path: Path) -> str:
    """The hash of a base: of the parts that are loaded. Raises as `parts_of`."""
    return directory_sha256(path, tuple(parts_of(path)))
