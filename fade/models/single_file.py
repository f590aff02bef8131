"""A base as one safetensors file in the original key layout, beside a local directory of configurations.

Its name is one string, ``FILE.safetensors@DIRECTORY``, as a hub id with its revision is one. The weights are
the file's alone; configurations, tokenizers and scheduler are the directory's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import BaseModelError
from fade.models.part_files import PartFiles

if TYPE_CHECKING:
    import torch

_NAME = re.compile(r"(?P<file>.+\.safetensors)@(?P<config>.+)", re.DOTALL)
_ACTION = "compare it with the file that its author published, and data.base_config with the file's family."


def split(where: Path | str) -> tuple[Path, Path] | None:
    """(the file, the directory of its configurations); None for a base of another layout."""
    found = _NAME.fullmatch(str(where))
    return (Path(found["file"]), Path(found["config"])) if found else None


def join(file: str, config: str) -> str:
    """The name of a base of this layout."""
    return f"{file}@{config}"


def load_single_file(
    home: Path, pipeline: str, parts: Iterable[PartFiles], dtype: torch.dtype
) -> dict[str, Any]:
    """The parts by name: frozen networks in eval mode on the CPU, tokenizers, the scheduler. The autoencoder
    is float32. Raises BaseModelError for a file that is not whole."""
    import diffusers
    import torch

    from fade.models.complete import check_finite
    from fade.models.layout import BASE, LOCAL

    file, config = split(home) or (home, home)
    owner = getattr(diffusers, pipeline)
    try:
        loaded = owner.from_single_file(
            str(file), config=str(config), torch_dtype=dtype, local_files_only=LOCAL["local_files_only"]
        ).components
    except Exception as error:  # diffusers and accelerate raise many kinds
        why = " ".join(str(error).split())[:300]
        what = f"{file} cannot be read as a {pipeline} with the configurations of {config}: {why}."
        raise BaseModelError(what, stage=BASE, action=_ACTION) from error
    out: dict[str, Any] = {}
    for part in parts:
        one = out[part.name] = loaded[part.name]
        if isinstance(one, torch.nn.Module):
            if lost := sorted(name for name, value in one.named_parameters() if value.is_meta):
                what = f"{file} lacks {lost[0]} of {part.name}, and {len(lost) - 1} more."
                raise BaseModelError(what, stage=BASE, action=_ACTION)
            one.to(torch.float32 if part.kind == "AutoencoderKL" else dtype).eval().requires_grad_(False)
            check_finite(f"{file}: {part.name}", one, BASE)
    return out
