"""A judge's directory in transformers' layout, written whole or not at all."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fade.errors import StorageError
from fade.judges.preparation import Preparation
from fade.models.safetensors_file import canonical_safetensors
from fade.utils.files import is_free, storage_error, write_folder

STAGE = "judge"


def require_free(out: Path) -> None:
    """Raises StorageError where something is: a judge is never replaced. Call it before work whose result
    goes there."""
    try:
        if not is_free(out):
            action = "name another directory with --out, or remove it."
            raise StorageError(f"{out} is there already.", stage=STAGE, action=action)
    except OSError as error:
        raise storage_error(error, out, STAGE) from error


def write_judge(
    out: Path,
    model: Any,
    labels: Sequence[str],
    preparation: Preparation,
    files: Mapping[str, Any],
) -> Path:
    """Write a classifier of transformers with its label names, how it takes pictures, and ``files`` beside it
    (name -> a text, or what becomes JSON). Raises StorageError."""
    require_free(out)
    config = copy.deepcopy(model.config)
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    config.architectures, config.dtype = [type(model).__name__], "float32"
    state = {name: tensor.detach().float().cpu() if tensor.is_floating_point() else tensor.cpu()
             for name, tensor in model.state_dict().items()}  # fmt: skip
    contents: dict[str, bytes | str] = {
        "config.json": config.to_json_string(),
        "model.safetensors": canonical_safetensors(state, {"format": "pt"}),
        "preprocessor_config.json": _json(preparation.to_json()),
        **{name: one if isinstance(one, str) else _json(one) for name, one in files.items()},
    }
    return write_folder(out, contents, stage=STAGE)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
