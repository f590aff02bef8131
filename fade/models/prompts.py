"""What the tokenizers of a model make of prompts: which are cut, and which concepts cannot be told apart.

The same token ids are the same embedding, so an adapter that is trained on one such concept erases the
other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fade.data.vocabulary import fill
from fade.errors import UsageError
from fade.models.base import DiffusionModel
from fade.utils.notes import note

SHOWN = 60
"""Characters of a prompt in a sentence."""
RENAME = "rename one of them where the data come from, or name a base that reads both (data.base)."
SCRIPT = "name the concept in the script of the base's prompts."
Ids = tuple[tuple[int, ...], ...]
"""Token ids of one prompt by each tokenizer of a model, as far as its encoder reads them."""


def tokenize(model: DiffusionModel, prompts: Sequence[str]) -> tuple[list[Ids], list[bool]]:
    """Of each prompt its token ids, and whether it is cut: no encoder of the model reads the whole of it."""
    read: list[list[tuple[int, ...]]] = []
    whole: list[list[bool]] = []
    for name in (part for part in model.parts if part.startswith("tokenizer")):
        limit = model.token_limit(name)
        # one token more than is read shows that a prompt is cut; the last that is read is the end
        size = {"truncation": True, "max_length": limit + 1}
        ids = model.parts[name](list(prompts), **size)["input_ids"]
        read.append([tuple(one[: limit - 1]) for one in ids])
        whole.append([len(one) <= limit for one in ids])
    cut = [not any(some) for some in zip(*whole, strict=True)]
    return list(zip(*read, strict=True)), cut


def cut_prompts(model: DiffusionModel, prompts: Sequence[str]) -> list[str]:
    """Those of the prompts, none twice, of which no encoder of the model reads the whole."""
    unique = list(dict.fromkeys(prompts))
    return [prompt for prompt, cut in zip(unique, tokenize(model, unique)[1], strict=True) if cut]


def cut_sentence(model: DiffusionModel, cut: Sequence[str]) -> str:
    """Names the first of the prompts that are cut, their number and what the model reads of them."""
    limit = max(model.token_limit(part) for part in model.parts if part.startswith("tokenizer"))
    more = f" and {len(cut) - 1} more" if cut[1:] else ""
    what = f"the prompt {_short(cut[0])!r}{more} is longer than the {limit} tokens that {model.path} reads"
    return f"{what}: its end is cut off."


def require_whole(model: DiffusionModel, prompts: Sequence[str], stage: str) -> None:
    """Raises UsageError that names the first prompt which is cut."""
    if cut := cut_prompts(model, prompts):
        action = "shorten the prompt: the concept's name, or sampler.prompt."
        raise UsageError(cut_sentence(model, cut), stage=stage, action=action)


def require_encoded_whole(model: DiffusionModel, stage: str) -> None:
    """As `require_whole`, of all prompts that the model has encoded so far."""
    require_whole(model, list(model._encoded), stage)


def require_distinct(
    model: DiffusionModel, template: str, names: Sequence[str], targets: Sequence[str], stage: str
) -> None:
    """Raises UsageError for a concept whose prompt is cut, for a target of which no tokenizer knows a
    character, and for a target that the model cannot tell from another concept. Two concepts of which none is
    a target are named in a note: they count as one concept twice.

    template: with the slot {concept}; names: the vocabulary, or what is used of it."""
    names = list(dict.fromkeys((*targets, *names)))
    require_whole(model, [fill(template, name) for name in names], stage)
    for target in targets:
        if not _is_known(model, target):
            what = f"the tokenizer of {model.path} knows no character of {target!r}"
            raise UsageError(f"{what}: something else would be erased.", stage=stage, action=SCRIPT)
    for same in alike(model, {name: fill(template, name) for name in names}):
        listed = ", ".join(repr(_short(name)) for name in same)
        what = f"{model.path} cannot tell apart {listed}: their prompts have the same tokens"
        if not set(targets).isdisjoint(same):
            raise UsageError(f"{what}, so all of them would be erased.", stage=stage, action=RENAME)
        note(f"{what}, so they count as one concept {len(same)} times. Next: {RENAME}")


def alike(model: DiffusionModel, prompts: Mapping[str, str]) -> list[list[str]]:
    """Groups of concepts, two or more each, whose prompts have the same token ids; concept -> prompt."""
    groups: dict[Ids, list[str]] = {}
    ids, _ = tokenize(model, list(prompts.values()))
    for name, one in zip(prompts, ids, strict=True):
        groups.setdefault(one, []).append(name)
    return [names for names in groups.values() if names[1:]]


def _is_known(model: DiffusionModel, name: str) -> bool:
    """Whether a tokenizer knows a part of the name."""
    for part in (part for part in model.parts if part.startswith("tokenizer")):
        tokenizer = model.parts[part]
        ids = set(tokenizer(name, add_special_tokens=False, truncation=True)["input_ids"])
        if ids - {tokenizer.unk_token_id, *tokenizer.all_special_ids}:
            return True
    return False


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
