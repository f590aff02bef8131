"""The settings of a LoRA that stand beside its weights: diffusers' header, peft's adapter_config.json."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fade.errors import AdapterError
from fade.utils.parsing import MalformedError, parse_json
from fade.utils.reading import RECORD, read_text

STAGE = "evaluate"
CONFIG, HEADER = "adapter_config.json", "lora_adapter_metadata"
_NAME = re.compile(r"[\w.]+", re.ASCII)


@dataclass(frozen=True)
class Settings:
    """How strong the updates are. Without any, alpha is the rank."""

    alpha: float | None = None
    alphas: Mapping[str, float] = field(default_factory=dict)
    """A layer's name, or its end -> its alpha."""
    rank_stabilized: bool = False
    """alpha / sqrt(rank), peft's use_rslora."""

    def alpha_of(self, layer: str, rank: int) -> float:
        """The layer's alpha."""
        own = next((one for end, one in self.alphas.items() if f".{layer}".endswith(f".{end}")), self.alpha)
        return float(rank) if own is None else own

    def scale(self, alpha: float, rank: int) -> float:
        """What up @ down is multiplied by."""
        return alpha / (math.sqrt(rank) if self.rank_stabilized else rank)


def read_settings(path: Path, metadata: Mapping[str, str], denoiser: str, *, peft: bool) -> Settings:
    """The settings of the file ``path``. peft: they are required, in adapter_config.json beside it. Raises
    AdapterError for settings that are missing, damaged, or of another method than LoRA."""
    where = path.parent / CONFIG if peft else path
    try:
        if peft:
            content = parse_json(read_text(where, RECORD), ours=False)
        else:
            content = parse_json(metadata.get(HEADER, "{}"), ours=False)
    except FileNotFoundError:
        what = f"{path} is peft's, and {where} is missing: the strength of its updates is not known."
        raise AdapterError(what, stage=STAGE, action=f"put its {CONFIG} beside it.") from None
    except (OSError, MalformedError) as error:
        what = f"{where}: its settings cannot be read: {error}."
        raise AdapterError(what, stage=STAGE, action="fetch it anew.") from None
    prefix = "" if peft else f"{denoiser}."
    found = content if isinstance(content, dict) else {"": content}
    own = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
    return _settings(own, where, peft)


def _settings(own: Mapping[str, Any], where: Path, peft: bool) -> Settings:
    if own.get("use_dora") or (peft and own.get("peft_type") != "LORA"):
        kind = "DoRA" if own.get("use_dora") else str(own.get("peft_type"))[:40]
        what = f"{where}: {kind} is not read here."
        raise AdapterError(what, stage=STAGE, action="use a plain LoRA, or the whole model with --model.")
    alpha, alphas = own.get("lora_alpha"), own.get("alpha_pattern") or {}
    numbers = [] if alpha is None else [alpha]
    numbers += alphas.values() if isinstance(alphas, dict) else [None]
    fine = all(isinstance(one, int | float) and math.isfinite(one) for one in numbers)
    if not fine or not all(_NAME.fullmatch(name) for name in alphas) or (peft and alpha is None):
        what = f"{where}: its lora_alpha or alpha_pattern is damaged."
        raise AdapterError(what, stage=STAGE, action="alphas are numbers, by the names of layers.")
    by_layer = {name: float(one) for name, one in alphas.items()}
    return Settings(None if alpha is None else float(alpha), by_layer, bool(own.get("use_rslora")))
