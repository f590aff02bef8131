"""What a model directory must look like before a byte of it is loaded: complete, and nothing but
safetensors."""

from __future__ import annotations

import json
from pathlib import Path

from fade.errors import BaseModelError
from fade.utils.hashing import fingerprint, sha256_of

PIPELINE_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_REFUSED = {".bin", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".msgpack", ".h5", ".npy", ".py"}
_HELP = (
    "pull the data (`fade pull`), or name a directory in diffusers' layout with safetensors weights in "
    "data.base."
)


def resolve(where: str, stage: str = "base") -> Path:
    """The local directory of a model: ``where`` itself, or a hub id fetched whole (safetensors, configs,
    tokenizer only).

    Raises BaseModelError when it is neither, or when the hub cannot be reached.
    """
    path = Path(where)
    if path.exists() or where.startswith((".", "/", "data/")) or where.count("/") != 1:
        if not path.is_dir():
            raise BaseModelError(f"{where} is not there.", stage=stage, action=_HELP)
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    patterns = ["*.safetensors", "*.json", "*.txt"]
    try:
        return Path(snapshot_download(where, allow_patterns=patterns))
    except (LocalEntryNotFoundError, RepositoryNotFoundError, HfHubHTTPError, OSError) as error:
        action = "name a local directory, or check the network and HF_HUB_OFFLINE."
        raise BaseModelError(
            f"{where} is no local directory and cannot be fetched: {error}.", stage=stage, action=action
        ) from error


def check_pipeline(path: Path) -> None:
    """Raises BaseModelError that names the missing or refused file of a Stable Diffusion directory."""
    refuse_pickles(path, "base")
    if not (path / "model_index.json").is_file():
        raise BaseModelError(f"{path / 'model_index.json'} is missing.", stage="base", action=_HELP)
    try:
        index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise BaseModelError(
            f"{path / 'model_index.json'} is no JSON: {error}.", stage="base", action=_HELP
        ) from None
    for part in PIPELINE_PARTS:
        config = {"tokenizer": "tokenizer_config.json", "scheduler": "scheduler_config.json"}.get(
            part, "config.json"
        )
        if part not in index or not (path / part / config).is_file():
            raise BaseModelError(f"{path / part / config} is missing.", stage="base", action=_HELP)
        if part in ("unet", "vae", "text_encoder") and not any((path / part).glob("*.safetensors")):
            raise BaseModelError(f"{path / part} holds no safetensors weights.", stage="base", action=_HELP)


def refuse_pickles(path: Path, stage: str) -> None:
    """Raises BaseModelError for any file that could run code when it is loaded."""
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in _REFUSED:
            action = "convert the weights to safetensors and remove the file."
            raise BaseModelError(
                f"{file} is refused: only safetensors weights are loaded.", stage=stage, action=action
            )


def directory_sha256(path: Path, parts: tuple[str, ...] = ()) -> str:
    """One hash of all files below ``path`` (or below its named parts): of their relative names and their
    bytes."""
    roots = [path / part for part in parts] if parts else [path]
    files = sorted(f for root in roots for f in root.rglob("*") if f.is_file())
    return fingerprint({f.relative_to(path).as_posix(): sha256_of(f) for f in files})
