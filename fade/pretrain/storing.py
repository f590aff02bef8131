"""How a world's models are stored: in half precision, without a path of this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PREPROCESSOR = {
    "size": 64,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "do_resize": True,
    "do_normalize": True,
}
"""How the judge and the CLIP take pictures: 64 pixels, -1..1."""


def store_judge(model: Any, folder: Path, preprocessor: Mapping[str, Any] = PREPROCESSOR) -> None:
    """A classifier, and how it takes pictures."""
    save_half(model, folder)
    write_indented(folder / "preprocessor_config.json", preprocessor)


def save_half(model: Any, folder: Path) -> None:
    """A model without the path that it was loaded from. Its configuration names float32, which is what it is
    loaded as where no other type is named."""
    model.half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    if "dtype" in config:
        config["dtype"] = "float32"
    write_indented(folder / "config.json", config)


def write_indented(path: Path, content: Mapping[str, Any]) -> None:
    """A JSON file that a person can read."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
