"""What a model directory must look like before a byte of it is loaded: complete, nothing but safetensors,
and no code of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fade.errors import BaseModelError
from fade.utils.hashing import fingerprint, sha256_of
from fade.utils.parsing import MalformedError, parse_json
from fade.utils.reading import RECORD, check_regular, read_text

PIPELINE_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_REFUSED = {".bin", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".msgpack", ".h5", ".npy", ".py"}
CODE_KEYS = ("auto_map", "custom_pipelines")
"""Keys by which a configuration names Python code beside it or on a hub."""
LOADED = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
"""Part of a pipeline -> the one class that is loaded."""
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


def check_pipeline(path: Path) -> None:
    """Raises BaseModelError that names the missing or refused file of a Stable Diffusion directory."""
    refuse_unsafe_files(path, "base")
    file = path / "model_index.json"
    if not file.is_file():
        raise _fault(f"{file} is missing.")
    index = read_config(file)
    name = index.get("_class_name", "StableDiffusionPipeline")
    if not isinstance(name, str) or not name.startswith("StableDiffusion"):
        raise _fault(f"{file} names the pipeline {str(name)[:80]!r}, none that is loaded here.")
    for part in PIPELINE_PARTS:
        has_weights = part not in ("tokenizer", "scheduler")
        config = path / part / ("config.json" if has_weights else f"{part}_config.json")
        if part not in index or not config.is_file():
            raise _fault(f"{config} is missing.")
        library = index[part][0] if isinstance(index[part], list) and index[part] else None
        if library not in _LIBRARIES:
            what = f"{file}: {part} is of {str(library)[:80]!r}, not of {' or '.join(_LIBRARIES)}."
            raise _fault(what)
        found = read_config(config).get("_class_name", LOADED.get(part))
        if part in LOADED and found != LOADED[part]:
            raise _fault(f"{config} is of the class {str(found)[:80]!r}, not {LOADED[part]}.")
        if has_weights and not any((path / part).glob("*.safetensors")):
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
