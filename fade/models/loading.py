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
    refuse_pickles(path, "base")
    file = path / "model_index.json"
    if not file.is_file():
        raise _fault(f"{file} is missing.")
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _fault(f"{file} is no JSON: {error}.") from None
    for part in PIPELINE_PARTS:
        has_weights = part not in ("tokenizer", "scheduler")
        config = path / part / ("config.json" if has_weights else f"{part}_config.json")
        if part not in index or not config.is_file():
            raise _fault(f"{config} is missing.")
        if has_weights and not any((path / part).glob("*.safetensors")):
            raise _fault(f"{path / part} holds no safetensors weights.")


def refuse_pickles(path: Path, stage: str) -> None:
    """Raises BaseModelError for any file that could run code when it is loaded."""
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in _REFUSED:
            what = f"{file} is refused: only safetensors weights are loaded."
            raise _fault(what, "convert the weights to safetensors and remove the file.", stage)


def directory_sha256(path: Path, parts: tuple[str, ...] = ()) -> str:
    """One hash of all files below ``path`` (or below its named parts): of their relative names and their
    bytes."""
    roots = [path / part for part in parts] if parts else [path]
    files = sorted(f for root in roots for f in root.rglob("*") if f.is_file())
    return fingerprint({f.relative_to(path).as_posix(): sha256_of(f) for f in files})
