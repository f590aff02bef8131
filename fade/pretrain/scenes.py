"""Pictures of one to three drawings on white, and the captions that describe them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fade.config import SceneMix
from fade.errors import DataError
from fade.pretrain.captions import POSITIONS, RELATIONS, Scene, Thing, caption

SIDE = 64
CELL = 8
"""Pixels across one cell of the grid on which drawings lie. It is that of the latents, so that a drawing has
the same latent wherever it lies: where it lay at any pixel, a little turned, denoisers of up to 24,000 steps
drew two things as mixtures."""
WHOLE = SIDE // CELL
"""Cells across a picture."""
GAP = 2.0
"""Pixels by which a drawing's longer side is shorter than its cells: white between neighbours."""
VISIBLE = 8
"""Alpha (of 255) above which a pixel counts as part of the drawing."""
AND_SHARE = 0.4
"""Share of the pairs that are "and" beside its share among RELATIONS."""
Layout = Sequence[tuple[int, int, int]]
"""Of each drawing the first cell from the left and from the top, and the cells across."""
_SIDE_BY_SIDE, _STACKED = ((0, 2, 4), (4, 2, 4)), ((2, 0, 4), (2, 4, 4))
LAYOUTS: Mapping[str, Layout] = {
    "and": _SIDE_BY_SIDE,
    "next to": _SIDE_BY_SIDE,
    "left of": _SIDE_BY_SIDE,
    "right of": _SIDE_BY_SIDE[::-1],
    "above": _STACKED,
    "under": _STACKED[::-1],
}
"""Two drawings, the first where the relation has it."""
IN_FRONT: Sequence[Layout] = (((0, 2, 5), (3, 1, 5)), ((3, 2, 5), (0, 1, 5)))
"""They overlap by two cells; what is nearer stands lower."""
TRIANGLES: Sequence[Layout] = (((0, 0, 4), (4, 0, 4), (2, 4, 4)), ((2, 0, 4), (0, 4, 4), (4, 4, 4)))
"""Three drawings, in reading order."""


@dataclass(frozen=True)
class SceneBatch:
    """B pictures, what they show, and where."""

    x: Tensor
    """(B, 3, 64, 64) in -1..1."""
    captions: list[str]
    scenes: list[Scene]
    boxes: list[Tensor]
    """Per picture (K, 4) float: x0, y0, x1, y1 in pixels of each of its K drawings, in caption order."""
    sprites: list[list[int]]
    """Per picture, the row of each drawing in the set."""


@dataclass(frozen=True)
class _Placed:
    """A drawing in a picture; x, y: its first cell from the left and from the top; cells: across."""

    sprite: int
    x: int
    y: int
    cells: int


class SceneSampler:
    """Samples pictures with captions from RGBA drawings.

    sprites (N, 64, 64, 4) uint8, straight alpha; names, styles (N); shares (N,): probability of each, in any
    scale. Raises DataError for a drawing without a visible pixel, or when a style, of which a scene may be
    made, has too few names for it."""

    def __init__(
        self,
        sprites: np.ndarray | Tensor,
        names: Sequence[str],
        styles: Sequence[str],
        shares: Sequence[float] | Tensor,
        mix: SceneMix,
    ) -> None:
        self.sprites, self.names, self.styles, self.mix = torch.as_tensor(sprites), names, styles, mix
        self._content = _content_boxes(self.sprites)
        rows = [(i, float(share)) for i, share in enumerate(shares) if share > 0]
        groups: dict[str | None, list[tuple[int, float]]] = {None: rows}  # None: of all styles
        for row in rows:
            groups.setdefault(styles[row[0]], []).append(row)
        self._choices = {
            style: ([i for i, _ in group], list(accumulate(share for _, share in group)))
            for style, group in groups.items()
        }
        needed = 3 if mix.triple else 2 if mix.pair else 1
        for style, (group, _) in self._choices.items():
            used = style is None or mix.styled > 0
            if used and len({names[i] for i in group}) < needed:
                where = "all drawings together" if style is None else f"the style {style!r}"
                what = f"{where} cannot make a scene of {needed} things: too few names."
                raise DataError(what, stage="scenes", action="leave it out, or add drawings.")

    def batch(self, n: int, generator: torch.Generator) -> SceneBatch:
        """``n`` pictures; the same generator state gives the same batch."""
        scenes, placed = zip(*self._scenes(n, generator), strict=True)
        captions = [caption(scene, generator) for scene in scenes]
        owner = torch.tensor([i for i, drawings in enumerate(placed) for _ in drawings])
        order = torch.tensor([k for drawings in placed for k in range(len(drawings))])
        layers, boxes = self._layers([drawing for drawings in placed for drawing in drawings])
        x = torch.ones(n, 3, SIDE, SIDE)
        for k in range(int(order.max()), -1, -1):  # the first lies above the second
            rows = order == k
            rgb, alpha = layers[rows].split([3, 1], 1)
            x[owner[rows]] = x[owner[rows]] * (1 - alpha) + rgb
        split = list(boxes.split([len(drawings) for drawings in placed]))
        sprites = [[drawing.sprite for drawing in drawings] for drawings in placed]
        return SceneBatch(x.mul_(2).sub_(1), captions, list(scenes), split, sprites)

    def captions(self, n: int, generator: torch.Generator) -> tuple[list[Scene], list[str]]:
        """The scenes and captions of `batch`, without its pictures."""
        scenes = [scene for scene, _ in self._scenes(n, generator)]
        return scenes, [caption(scene, generator) for scene in scenes]

    def _scenes(self, n: int, generator: torch.Generator) -> list[tuple[Scene, list[_Placed]]]:
        rng = random.Random(int(torch.randint(2**62, (1,), generator=generator)))
        kinds = ("plain", "placed", "repeated", "pair", "triple")
        picked = rng.choices(kinds, [getattr(self.mix, kind) for kind in kinds], k=n)
        return [self._scene(kind, rng) for kind in picked]

    def _scene(self, kind: str, rng: random.Random) -> tuple[Scene, list[_Placed]]:
        many = {"pair": 2, "triple": 3}.get(kind, 1)
        first = self._pick(None, rng)
        style = self.styles[first] if rng.random() < self.mix.styled else None
        picks = [first]
        while len(picks) < many:
            other = self._pick(style, rng)
            if self.names[other] not in [self.names[i] for i in picks]:
                picks.append(other)
        # Three names and a style are more words than a caption holds
        shown = style if many < 3 else None
        things = [Thing(self.names[i], shown) for i in picks]
        if kind == "plain":
            return Scene((things[0],)), [_Placed(first, 0, 0, WHOLE)]
        if kind == "placed":
            return _placed(things[0], first, rng)
        if kind == "repeated":
            count = rng.choice((2, 2, 3))
            places = LAYOUTS["and"] if count == 2 else rng.choice(TRIANGLES)
            thing = Thing(things[0].name, shown, count)
            return Scene((thing,)), _at([first] * count, places)
        if kind == "triple":
            return Scene(tuple(things)), _at(picks, rng.choice(TRIANGLES))
        relation = "and" if rng.random() < AND_SHARE else rng.choice(list(RELATIONS))
        layout = rng.choice(IN_FRONT) if relation == "in front of" else LAYOUTS[relation]
        return Scene(tuple(things), relation), _at(picks, layout)

    def _pick(self, style: str | None, rng: random.Random) -> int:
        rows, cumulative = self._choices[style]
        return rng.choices(rows, cum_weights=cumulative)[0]

    def _layers(self, placed: Sequence[_Placed]) -> tuple[Tensor, Tensor]:
        """Each drawing at its place, (M, 4, 64, 64) premultiplied in 0..1, and the boxes (M, 4)."""
        layers, boxes = torch.zeros(len(placed), 4, SIDE, SIDE), torch.empty(len(placed), 4)
        for layer, box, one in zip(layers, boxes, placed, strict=True):
            x0, y0, x1, y1 = self._content[one.sprite].tolist()
            drawing = self.sprites[one.sprite, y0:y1, x0:x1].permute(2, 0, 1).float() / 255
            drawing[:3] *= drawing[3:]
            side = one.cells * CELL
            scale = (side - GAP) / max(drawing.shape[1:])
            height, width = (max(1, round(scale * length)) for length in drawing.shape[1:])
            small = F.interpolate(drawing[None], (height, width), mode="bilinear", antialias=True)[0]
            left, top = one.x * CELL + (side - width) // 2, one.y * CELL + (side - height) // 2
            layer[:, top : top + height, left : left + width] = small
            box[:] = torch.tensor([left, top, left + width, top + height])
        return layers, boxes


def _content_boxes(sprites: Tensor) -> Tensor:
    """(N, 4) x0, y0, x1, y1 of each drawing's visible pixels."""
    visible = sprites[..., 3] > VISIBLE
    if not visible.flatten(1).any(1).all():
        row = int((~visible.flatten(1).any(1)).nonzero()[0])
        raise DataError(f"drawing {row} has no visible pixel.", stage="scenes", action="leave it out.")
    sides = []
    for used in (visible.any(1), visible.any(2)):  # columns, rows
        sides.append((used.int().argmax(1), SIDE - used.flip(1).int().argmax(1)))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], 1)


def _at(picks: Sequence[int], layout: Layout) -> list[_Placed]:
    return [_Placed(pick, *place) for pick, place in zip(picks, layout, strict=True)]


def _placed(thing: Thing, sprite: int, rng: random.Random) -> tuple[Scene, list[_Placed]]:
    """One thing whose size or position the caption names."""
    size, position = rng.choice((("small", None), ("big", None), (None, "any"), ("small", "any")))
    position = position and rng.choice(list(POSITIONS))
    cells = WHOLE if size == "big" else 3 if size == "small" else 4
    middle, far = (WHOLE - cells) // 2, WHOLE - cells
    x = {"left": 0, "right": far, "corner": rng.choice((0, far))}.get(position or "", middle)
    y = {"top": 0, "bottom": far, "corner": rng.choice((0, far))}.get(position or "", middle)
    named = Thing(thing.name, thing.style, 1, size, position)
    return Scene((named,)), [_Placed(sprite, x, y, cells)]
