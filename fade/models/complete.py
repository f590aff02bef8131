"""Load one part of a model whole: every tensor of its class, none else, each finite, in our dtype."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from fade.errors import BaseModelError
from fade.models.layout import LOCAL
from fade.models.part_files import HARMLESS, PartFiles, plain_name
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
    check_prefixes(part, model.state_dict(), stage)
    check_finite(where, model, stage)
    return model.eval().requires_grad_(False)


def load_tokenizer(owner: Any, folder: Path, stage: str) -> Any:
    """A tokenizer of transformers. Raises BaseModelError for one that does not load, and for one that cannot
    tell two letters apart: all prompts would have one embedding."""
    try:
        tokenizer = owner.from_pretrained(folder, **LOCAL)
        one, other = tokenizer(["a", "b"])["input_ids"]
    except Exception as error:  # transformers and tokenizers raise many kinds
        why = " ".join(str(error).split())[:300]
        what = f"{folder} has no tokenizer that loads: {why}."
        raise BaseModelError(what, stage=stage, action=_ACTION) from error
    if one == other:
        what = f"{folder} tells no letters apart: the tokenizer's vocabulary is empty, or another's."
        raise BaseModelError(what, stage=stage, action=_ACTION)
    return tokenizer


def check_words(parts: Mapping[str, Any], where: str, stage: str) -> None:
    """Each text encoder has an embedding for every token of its tokenizer. Raises BaseModelError: a prompt
    with such a token would stop a run in the middle."""
    for name in (name for name in parts if name.startswith("text_encoder")):
        tokenizer = name.replace("text_encoder", "tokenizer")
        known, vocabulary = parts[name].get_input_embeddings().num_embeddings, parts[tokenizer].get_vocab()
        word = max(vocabulary, key=vocabulary.__getitem__)
        if vocabulary[word] >= known:
            what = f"{where}: {tokenizer} has the token {word!r} of number {vocabulary[word]}, and {name}"
            action = "take the tokenizer that belongs to the text encoder."
            raise BaseModelError(f"{what} has {known} embeddings.", stage=stage, action=action)


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


def check_prefixes(part: PartFiles, own: Iterable[str], stage: str) -> None:
    """Raises BaseModelError that names a tensor of the files which is one of the network's own (names as it
    has them) behind a prefix that is not the network's.

    transformers drops its class's ``base_model_prefix`` (CLIP's ``clip.``, T5's ``transformer.``) from a name
    when the rest is one that it knows, and reports nothing."""
    known = {plain_name(name, part.kind) for name in own}
    for name in part.tensors(stage):
        pieces = plain_name(name, part.kind).split(".")
        ends = [".".join(pieces[i:]) for i in range(len(pieces))]
        if ends[0] not in known and (tensor := next((end for end in ends if end in known), "")):
            prefix, whole = name.removesuffix(tensor), f"{part.prefix or ''}{name}"
            what = f"{part.place} holds {whole}: {part.kind}'s {tensor} behind the foreign prefix {prefix!r}."
            raise BaseModelError(what, stage=stage, action=_ACTION)


@torch.no_grad()
def check_finite(where: str, model: torch.nn.Module, stage: str) -> None:
    """Raises BaseModelError that names the first tensor with a NaN or an infinity."""
    for name, values in model.state_dict().items():
        if values.is_floating_point() and not is_finite(values):
            action = "fetch the model anew: its weights are broken."
            raise BaseModelError(f"{where}: {name} is not finite.", stage=stage, action=action)
