"""The text towers: a CLIP of any width, or a small T5, with the geometry of a real sentence encoder.

A tower that learned only to tell captions apart makes prompts nearly orthogonal, and then an eraser can cut
one out without touching another. Real text encoders keep neighbours close; that closeness is the adjacency
problem. So a tower learns two things of the captions' scenes: the cosines of a sentence encoder (MiniLM)
between their names, over all names of the packages and not only the vocabulary's, and to name what is shown.
No picture is needed for either."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
)

from fade.config import TextConfig
from fade.judges.supervised_loop import Logs, Training, fit
from fade.models.layout import LOCAL
from fade.models.text import token_ids
from fade.pretrain.captions import Scene, Thing, plural
from fade.pretrain.packages import package_folder

CPU = torch.device("cpu")
MOST_THINGS = 3
"""In one scene."""
NOTHING = Thing("")
"""What an empty slot names; it has no direction, and so a cosine of 0 to every name."""
ORDER_SCALE = 10.0
"""Of the cosines in `Reader.order_loss`: small enough that the order must fill a good part of a state."""
STYLE_SHARE = 0.08
"""Of a goal's cosine, what the style decides when both captions name one."""


def build_clip(config: TextConfig, tokenizer: Any) -> CLIPTextModelWithProjection:
    """An untrained tower; its projection has the tower's own width."""
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            hidden_size=config.hidden,
            intermediate_size=4 * config.hidden,
            projection_dim=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            hidden_act=config.activation,
            vocab_size=len(tokenizer),
            max_position_embeddings=tokenizer.model_max_length,
            **ids,
        )
    )


def build_t5(config: TextConfig, tokenizer: Any) -> T5EncoderModel:
    """An untrained encoder; activation is that of its gated feed-forward."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=config.hidden,
            d_kv=config.hidden // config.heads,
            d_ff=2 * config.hidden,
            num_layers=config.layers,
            num_heads=config.heads,
            feed_forward_proj=f"gated-{config.activation}",
            dropout_rate=0.0,
            is_encoder_decoder=False,
            use_cache=False,
        )
    )


def teacher_embeddings(names: Sequence[str], package: str) -> dict[str, Tensor]:
    """Name -> L2-normalised sentence embedding (384,) of ``"a {name}"`` by a package that holds the weights.

    Raises DataError when it is not installed (it is needed to rebuild the world only, not to use it)."""
    folder = package_folder(package, f"the sentence encoder {package} is not installed.", "text")
    home = next(p.parent for p in sorted(folder.rglob("config.json")) if any(p.parent.glob("*.safetensors")))
    tokenizer = AutoTokenizer.from_pretrained(home, **LOCAL)
    model = AutoModel.from_pretrained(home, use_safetensors=True, **LOCAL).eval()
    texts, means = [f"a {name}" for name in names], []
    with torch.no_grad():
        for start in range(0, len(texts), 256):
            batch = tokenizer(texts[start : start + 256], padding=True, truncation=True, return_tensors="pt")
            hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None].float()
            means.append(F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
    return dict(zip(names, torch.cat(means), strict=True))


@dataclass(frozen=True)
class Meaning:
    """What captions mean, by the names and styles of their scenes."""

    embeddings: Mapping[str, Tensor]
    """Name -> unit sentence embedding (E,)."""

    def of(self, scenes: Sequence[Scene]) -> Tensor:
        """(B, E) unit vectors: the mean of the things' names."""
        zero = torch.zeros_like(next(iter(self.embeddings.values())))
        rows = [
            sum((zero if one == NOTHING else self.embeddings[one.name] for one in scene.things), zero)
            for scene in scenes
        ]
        return F.normalize(torch.stack(rows), dim=-1)

    def goal(self, scenes: Sequence[Scene]) -> Tensor:
        """(B, B) cosines that captions shall have: the names' and, a bit, the styles'."""
        names = self.of(scenes)
        styles = [scene.things[0].style for scene in scenes]
        same = torch.tensor([[0.5 if None in (a, b) else float(a == b) for b in styles] for a in styles])
        return (1 - STYLE_SHARE) * names @ names.T + STYLE_SHARE * same


def off_diagonal(difference: Tensor) -> Tensor:
    """Mean square of (B, B) without its diagonal."""
    return difference[~torch.eye(len(difference), dtype=torch.bool)].square().mean()


class Reader(nn.Module):
    """A tower with what its training reads from it: one unit vector a name and a style, and of a CLIP one a
    place in the caption's order.

    The names leave little room in a token's state for anything else: without the places, first and second
    thing differed by 7 % of the distance between two tokens, and a denoiser drew the same thing twice."""

    def __init__(self, tower: Any, names: Sequence[str], styles: Sequence[str]) -> None:
        super().__init__()
        self.tower = tower
        width = tower.config.hidden_size
        self.index = {name: i for i, name in enumerate(names)}
        self.style_index = {style: i for i, style in enumerate(styles)}
        self.names, self.styles = (nn.Parameter(torch.randn(len(some), width)) for some in (names, styles))
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.projects = isinstance(tower, CLIPTextModelWithProjection)
        if self.projects:
            self.orders = nn.Parameter(torch.randn(MOST_THINGS, width))

    def read(self, ids: Tensor, padding: int) -> tuple[Tensor, Tensor, Tensor]:
        """Unit features (B, D) of token ids (B, T), and the unit states (B, T, D) of their tokens, projected
        like them and as a denoiser reads them: of a CLIP the feature is the end mark's state, of a T5, which
        projects nothing, the mean over the caption's."""
        out = self.tower(input_ids=ids)
        states = F.normalize(out.last_hidden_state, dim=-1)
        if self.projects:
            projected = self.tower.text_projection(out.last_hidden_state)
            return F.normalize(out.text_embeds, dim=-1), F.normalize(projected, dim=-1), states
        mask = (ids != padding).float()[..., None]
        return F.normalize((out.last_hidden_state * mask).sum(1) / mask.sum(1), dim=-1), states, states

    def order_loss(self, states: Tensor, orders: Sequence[int]) -> Tensor:
        """Cross-entropy of the places in the caption's order, from unit states (N, D)."""
        logits = ORDER_SCALE * states @ F.normalize(self.orders, dim=-1).T
        return F.cross_entropy(logits, torch.tensor(orders))

    def naming_loss(self, features: Tensor, scenes: Sequence[Scene]) -> Tensor:
        """Cross-entropy of the scenes' names, equally, and of the style where the caption names one."""
        expected = torch.zeros(len(scenes), len(self.names))
        for row, scene in zip(expected, scenes, strict=True):
            row[[self.index[one.name] for one in scene.things]] = 1 / len(scene.things)
        scale = self.scale.exp().clamp(max=50)
        loss = F.cross_entropy(scale * features @ F.normalize(self.names, dim=-1).T, expected)
        styled = [i for i, scene in enumerate(scenes) if scene.things[0].style]
        if styled:
            style = torch.tensor([self.style_index[str(scenes[i].things[0].style)] for i in styled])
            logits = scale * features[styled] @ F.normalize(self.styles, dim=-1).T
            loss = loss + 0.5 * F.cross_entropy(logits, style)
        return loss


@dataclass(frozen=True)
class Marked:
    """A token that shall name one thing by itself."""

    row: int
    """The caption's, in its batch."""
    place: int
    thing: Thing
    order: int
    """The thing's place among the caption's things, from 0."""


def slots(ids: Tensor, padding: int, scenes: Sequence[Scene], generator: torch.Generator) -> list[Marked]:
    """Of each caption MOST_THINGS tokens of the padding, where it has as many.

    What follows a caption sees all of it; where each of its tokens names the same, a denoiser that attends to
    them cannot tell two things apart. So position p names thing p modulo MOST_THINGS, of two of a kind each
    in its turn, and NOTHING where there are fewer: the slots tell how many things there are."""
    count = ids.shape[1]
    filled = count - (ids == padding).sum(1)  # the first of the padding; of a CLIP it is the end mark
    marked = []
    for row, (scene, first) in enumerate(zip(scenes, (filled + 1).tolist(), strict=True)):
        things = [thing for thing in scene.things for _ in range(thing.count)]
        for slot in range(MOST_THINGS):
            places = range(first + (slot - first) % MOST_THINGS, count, MOST_THINGS)
            if places:
                place = places[int(torch.randint(len(places), (1,), generator=generator))]
                thing = things[slot] if slot < len(things) else NOTHING
                marked.append(Marked(row, place, thing, slot))
    return marked


@dataclass(frozen=True)
class Span:
    """A name within a caption's tokens, from ``first`` up to ``end``."""

    row: int
    first: int
    end: int
    thing: Thing
    order: int
    """As of `Marked`."""


def spelled_by(tokenizer: Any) -> Callable[[str], Sequence[list[int]]]:
    """Name -> the token ids of its forms, one thing and many."""

    @cache
    def spelled(name: str) -> Sequence[list[int]]:
        forms = tokenizer([name, plural(name)], add_special_tokens=False, verbose=False)
        return list(forms["input_ids"])

    return spelled


def name_ends(
    ids: Tensor, spelled: Callable[[str], Sequence[list[int]]], scenes: Sequence[Scene]
) -> list[Marked]:
    """Of each caption the last token of each thing's name, in order; it names that thing alone, whatever
    stands before it. spelled: as `spelled_by` gives it."""
    spans = name_spans(ids, spelled, scenes)
    return [Marked(one.row, one.end - 1, Thing(one.thing.name), one.order) for one in spans]


def name_spans(
    ids: Tensor, spelled: Callable[[str], Sequence[list[int]]], scenes: Sequence[Scene]
) -> list[Span]:
    """Where each caption has its things' names, in order; a name that it lacks is left out."""
    spans = []
    for row, (tokens, scene) in enumerate(zip(ids.tolist(), scenes, strict=True)):
        start = 0
        for order, thing in enumerate(scene.things):
            found = [
                (place, place + len(form))
                for form in spelled(thing.name)
                for place in range(start, len(tokens) - len(form) + 1)
                if tokens[place : place + len(form)] == form
            ]
            if found:
                # the longer of two at one place
                first, start = min(found, key=lambda span: (span[0], -span[1]))
                spans.append(Span(row, first, start, thing, order))
    return spans


def train(
    tower: Any, tokenizer: Any, pictures: Any, meaning: Meaning, config: TextConfig, training: Training
) -> None:
    """Train a tower in place on the captions of ``pictures`` (`fade.pretrain.scenes.SceneSampler`): the
    naming loss, and the mean squared difference of the captions' cosines to their goals, weighted; both of
    the whole caption, and of its `slots` and `name_ends`. Of those a CLIP learns the order, too."""
    torch.manual_seed(training.seed)
    reader = Reader(tower, sorted({NOTHING.name, *pictures.names}), sorted(set(pictures.styles)))
    spelled = spelled_by(tokenizer)

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        scenes, captions = pictures.captions(config.batch_size, generator)
        ids, padding = token_ids(tokenizer, captions, CPU), tokenizer.pad_token_id
        features, projected, states = reader.read(ids, padding)
        marked = [*slots(ids, padding, scenes, generator), *name_ends(ids, spelled, scenes)]
        where = [one.row for one in marked], [one.place for one in marked]
        loss, logs = features.new_zeros(()), Logs()
        for name, found, meant in (
            ("", features, scenes),
            ("token_", projected[where], [Scene((one.thing,)) for one in marked]),
        ):
            naming = reader.naming_loss(found, meant)
            geometry = off_diagonal(found @ found.T - meaning.goal(meant))
            loss = loss + naming + config.geometry_weight * geometry
            logs |= {f"{name}naming": naming.item(), f"{name}geometry": geometry.item()}
        if reader.projects:  # where nothing is projected, the names' geometry leaves no room for it
            order = reader.order_loss(states[where], [one.order for one in marked])
            loss = loss + order
            logs["order"] = order.item()
        return loss / 2, logs

    fit(reader, loss_at, config, training)
