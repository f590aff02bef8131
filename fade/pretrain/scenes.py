"""Pictures of one to three drawings on white, and the captions that describe them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
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
LEVELS = (64, 48, 36, 27)
"""Sides to which a drawing is reduced by an antialiased filter before it is placed, which is bilinear: that
alone keeps the detail of reductions by a third."""
ANGLE = 2.0
"""Degrees that a drawing is turned at most, either way: as `fade.judges.image_set.augment`."""
VISIBLE = 8
"""Alpha (of 255) above which a pixel counts as part of the drawing."""


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
    """A drawing in a picture; x, y: its centre in pixels; size: its longer side in pixels."""

    sprite: int
    x: float
    y: float
    size: float


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
        rng, made = self._scenes(n, generator)
        scenes, placed = zip(*made, strict=True)
        captions = [caption(scene, generator) for scene in scenes]
        owner = torch.tensor([i for i, drawings in enumerate(placed) for _ in drawings])
        order = torch.tensor([k for drawings in placed for k in range(len(drawings))])
        layers, boxes = self._layers([drawing for drawings in placed for drawing in drawings], rng)
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
        scenes = [scene for scene, _ in self._scenes(n, generator)[1]]
        return scenes, [caption(scene, generator) for scene in scenes]

    def _scenes(
        self, n: int, generator: torch.Generator
    ) -> tuple[random.Random, list[tuple[Scene, list[_Placed]]]]:
        rng = random.Random(int(torch.randint(2**62, (1,), generator=generator)))
        kinds = ("plain", "placed", "repeated", "pair", "triple")
        picked = rng.choices(kinds, [getattr(self.mix, kind) for kind in kinds], k=n)
        return rng, [self._scene(kind, rng) for kind in picked]

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
            return Scene((things[0],)), [_Placed(first, *_middle(rng, 2.5), rng.uniform(56, 64))]
        if kind == "placed":
            return _placed(things[0], first, rng)
        if kind == "repeated":
            count = rng.choice((2, 2, 3))
            places = _two("and", rng, rng.uniform(28, 32)) if count == 2 else _three(rng)
            thing = Thing(things[0].name, shown, count)
            return Scene((thing,)), _at([first] * count, places)
        if kind == "triple":
            return Scene(tuple(things)), _at(picks, _three(rng))
        relation = rng.choice(("and", "and", *RELATIONS))
        size = rng.uniform(32, 38) if relation == "in front of" else rng.uniform(30, 32.5)
        places = _two(relation, rng, size)
        return Scene(tuple(things), relation), _at(picks, places)

    def _pick(self, style: str | None, rng: random.Random) -> int:
        rows, cumulative = self._choices[style]
        return rng.choices(rows, cum_weights=cumulative)[0]

    def _layers(self, placed: Sequence[_Placed], rng: random.Random) -> tuple[Tensor, Tensor]:
        """Each drawing at its place, (M, 4, 64, 64) premultiplied in 0..1, and the boxes (M, 4)."""
        index = torch.tensor([drawing.sprite for drawing in placed])
        centre = torch.tensor([(drawing.x, drawing.y) for drawing in placed])
        angle = torch.tensor([math.radians(rng.uniform(-ANGLE, ANGLE)) for _ in placed])
        low, high = self._content[index].split(2, 1)
        extent = high - low
        scale = torch.tensor([drawing.size for drawing in placed]) / extent.amax(1)
        cos, sin = angle.cos(), angle.sin()
        turned = torch.stack([torch.stack([cos, sin.abs()], -1), torch.stack([sin.abs(), cos], -1)], 1)
        half = (turned @ extent[..., None])[..., 0] * scale[:, None] / 2
        # Output point -> point of the drawing, both in -1..1
        inverse = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], 1)
        inverse = inverse / scale[:, None, None]
        offset = (low + high) / SIDE - 1 - (inverse @ (centre * 2 / SIDE - 1)[..., None])[..., 0]
        grid = F.affine_grid(
            torch.cat([inverse, offset[..., None]], 2), [len(index), 1, SIDE, SIDE], align_corners=False
        )
        drawings = self.sprites[index].permute(0, 3, 1, 2).float().div_(255)
        drawings[:, :3] *= drawings[:, 3:]
        layers = torch.empty_like(drawings)
        level = torch.stack([scale * SIDE <= side for side in LEVELS]).sum(0).clamp(min=1) - 1
        for k, side in enumerate(LEVELS):
            rows = level == k
            if rows.any():
                small = drawings[rows]
                if side < SIDE:
                    small = F.interpolate(small, size=side, mode="bilinear", antialias=True)
                layers[rows] = F.grid_sample(small, grid[rows], mode="bilinear", align_corners=False)
        return layers, torch.cat([centre - half, centre + half], 1)


def _content_boxes(sprites: Tensor) -> Tensor:
    """(N, 4) float x0, y0, x1, y1 of each drawing's visible pixels."""
    visible = sprites[..., 3] > VISIBLE
    if not visible.flatten(1).any(1).all():
        row = int((~visible.flatten(1).any(1)).nonzero()[0])
        raise DataError(f"drawing {row} has no visible pixel.", stage="scenes", action="leave it out.")
    sides = []
    for used in (visible.any(1), visible.any(2)):  # columns, rows
        sides.append((used.int().argmax(1), SIDE - used.flip(1).int().argmax(1)))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], 1).float()


def _at(picks: Sequence[int], places: Sequence[tuple[float, float, float]]) -> list[_Placed]:
    return [_Placed(pick, *place) for pick, place in zip(picks, places, strict=True)]


def _middle(rng: random.Random, jitter: float) -> tuple[float, float]:
    return SIDE / 2 + rng.uniform(-jitter, jitter), SIDE / 2 + rng.uniform(-jitter, jitter)


def _placed(thing: Thing, sprite: int, rng: random.Random) -> tuple[Scene, list[_Placed]]:
    """One thing whose size or position the caption names."""
    size_word, position = rng.choice((("small", None), ("big", None), (None, "any"), ("small", "any")))
    position = position and rng.choice(list(POSITIONS))
    size = rng.uniform(60, 64) if size_word == "big" else rng.uniform(24, 34)
    if size_word is None:
        size = rng.uniform(30, 36 if position == "corner" else 44)
    x, y = _middle(rng, 2.0 if size_word == "big" else 5.0)
    near, far = size / 2 + rng.uniform(0, 3), SIDE - size / 2 - rng.uniform(0, 3)
    if position in ("left", "right"):
        x = near if position == "left" else far
    if position in ("top", "bottom"):
        y = near if position == "top" else far
    if position == "corner":
        x, y = rng.choice((near, far)), rng.choice((near, far))
    named = Thing(thing.name, thing.style, 1, size_word, position)
    return Scene((named,)), [_Placed(sprite, x, y, size)]


def _two(relation: str, rng: random.Random, size: float) -> list[tuple[float, float, float]]:
    """Centres and sizes of two drawings of about ``size``; the first where the relation has it."""
    directions: dict[str, tuple[float, float]] = {
        "right of": (1, 0),
        "above": (0, -1),
        "under": (0, 1),
        "in front of": (rng.choice((-1, 1)), 0.3),  # what is nearer stands lower
    }
    across, down = directions.get(relation, (-1, 0))
    distance = min(size * rng.uniform(1.0, 1.08), SIDE - 0.96 * size)
    if relation == "in front of":
        distance = min(size * rng.uniform(0.68, 0.9), SIDE - size)
    room = max(0.0, (SIDE - size - distance) / 2)
    free = min(7.0, (SIDE - size) / 2 - 2) if relation != "in front of" else 1.0
    along, places = rng.uniform(-room, room), []
    for sign in (0.5, -0.5):
        x, y = SIDE / 2 + sign * across * distance, SIDE / 2 + sign * down * distance
        sideways = rng.uniform(-free, free)
        x, y = (x + along, y + sideways) if across else (x + sideways, y + along)
        places.append((x, y, size * rng.uniform(0.97, 1.0)))
    return places


def _three(rng: random.Random) -> list[tuple[float, float, float]]:
    """Centres and sizes of three drawings in reading order: a triangle on either side, or a row."""
    size, jitter, middles = rng.choice(
        (
            (rng.uniform(22, 28), 1.5, ((-16, -16), (16, -16), (0, 16))),
            (rng.uniform(22, 28), 1.5, ((0, -16), (-16, 16), (16, 16))),
            (22.0, 0.4, ((-21, 0), (0, 0), (21, 0))),
        )
    )
    moved = ((x + rng.uniform(-jitter, jitter), y + rng.uniform(-1.5, 1.5)) for x, y in middles)
    return [(SIDE / 2 + x, SIDE / 2 + y, size) for x, y in moved]
