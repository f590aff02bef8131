"""Load one part of a model whole: every tensor of its class, none else, each finite, in our dtype."""

from __future__ import annotations

from typing import Any

import torch

from fade.errors import BaseModelError
from fade.models.layout import LOCAL
from fade.models.part_files import HARMLESS, PartFiles
from fade.models.probe import is_finite

_NAMED = 3
_ACTION = "fetch the model anew, or compare it with one that diffusers or transformers saved."


def load_complete(owner: Any, part: PartFiles, dtype: torch.dtype, stage: str) -> Any:
    """A frozen network in eval mode on the CPU, of the class ``owner`` of diffusers or transformers.

    dtype: of its weights, whatever the files and the configuration hold. Raises BaseModelError that names the
    part and a tensor that is missing, unknown, misshapen or not finite: the libraries would fill it with
    random numbers, or drop it."""
    where = str(part.folder)
    options: dict[str, Any] = {"use_safetensors": True, "output_loading_info": True}
    if owner.__module__.startswith("diffusers"):
        options["torch_dtype"] = dtype  # a misshapen tensor is its ValueError, which names the tensor
    else:
        options |= {"dtype": dtype, "ignore_mismatched_sizes": True}  # else its error names none
    try:
        model, info = owner.from_pretrained(part.folder, variant=part.variant or None, **options, **LOCAL)
    except Exception as error:  # the libraries raise a dozen kinds
        why = " ".join(str(error).split())[:400]
        what = f"{where} is no {part.kind.removeprefix('Auto')} that loads: {why}."
        raise BaseModelError(what, stage=stage, action=_ACTION) from error
    check_loaded(where, part.kind, info, stage)
    check_finite(where, model, stage)
    return model.eval().requires_grad_(False)


def check_loaded(where: str, kind: str, info: dict[str, Any], stage: str, action: str = _ACTION) -> None:
    """``info``: what the library names as missing, unexpected and mismatched. Raises BaseModelError."""
    if shapes := sorted(info.get("mismatched_keys") or ()):
        name, found, expected = shapes[0]
        what = f"{where}: {name} has the shape {tuple(found)}, {kind} takes {tuple(expected)}."
        raise BaseModelError(what, stage=stage, action=action)
    faults = []
    for key, fault in (("missing_keys", "lacks {}"), ("unexpected_keys", f"holds {{}}, unknown to {kind}")):
        names = sorted(name for name in info.get(key) or () if not name.endswith(HARMLESS))
        more = f" and {len(names) - _NAMED} more" if names[_NAMED:] else ""
        faults += [fault.format(", ".join(names[:_NAMED]) + more)] if names else []
    if faults:
        raise BaseModelError(f"{where} {' and '.join(faults)}.", stage=stage, action=action)
    if errors := info.get("error_msgs"):
        what = f"{where}: {' '.join(str(errors).split())[:300]}."
        raise BaseModelError(what, stage=stage, action=action)


@torch.no_grad()
def check_finite(where: str, model: torch.nn.Module, stage: str) -> None:
    """Raises BaseModelError that names the first tensor with a NaN or an infinity."""
    for name, values in model.state_dict().items():
        if values.is_floating_point() and not is_finite(values):
            action = "fetch the model anew: its weights are broken."
            raise BaseModelError(f"{where}: {name} is not finite.", stage=stage, action=action)
