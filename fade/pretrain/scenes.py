"""Pictures of one to three things, as captions describe them: drawings pasted on white paper."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fade.config import ScenesConfig
from fade.pretrain.captions import RELATIONS, Scene, Thing, caption

SIDE = 64
Box = tuple[int, int, int]
"""Left, top and side of a square in pixels."""


@dataclass(frozen=True)
class Placed:
    """One drawing in a picture."""

    sprite: int
    box: Box


@dataclass(frozen=True)
class SceneBatch:
    """n pictures with their captions."""

    x: Tensor
    """(n, 3, 64, 64) in -1..1."""
    captions: list[str]
    scenes: list[Scene]
    boxes: list[list[Box]]
    """Of each picture, one a drawing: a scene's things in order, each as often as it is counted."""


class SceneSampler:
    """Samples scenes from drawings."""

    def __init__(
        self,
        sprites: np.ndarray,
        names: Sequence[str],
        styles: Sequence[str],
        shares: Tensor,
        config: ScenesConfig,
    ) -> None:
        """sprites: (N, 64, 64, 4) uint8, straight alpha. names, styles: of each. shares: (N,) how often each is
        taken."""
        self.sprites, self.names, self.styles, self._config = sprites, list(names), list(styles), config
        weights = shares.tolist()
        everything = range(len(self.names))
        groups = {style: [i for i in everything if self.styles[i] == style] for style in set(self.styles)}
        self._rows = {None: list(everything), **groups}
        self._sums = {style: [*accumulate(weights[i] for i in rows)] for style, rows in self._rows.items()}
        kinds = {"plain": config.plain, "placed": config.placed, "repeated": config.repeated}
        self._kinds = {**kinds, "pair": config.pairs, "triple": config.triples}

    def batch(self, n: int, generator: torch.Generator) -> SceneBatch:
        """n scenes by the generator alone."""
        made = [self._scene(generator) for _ in range(n)]
        scenes, placed = [scene for scene, _ in made], [drawn for _, drawn in made]
        texts = [caption(scene, generator) for scene in scenes]
        in_order = [[one.box for one in drawn] for drawn in placed]
        behind = [drawn[::-1] if scene.relation == "in front of" else drawn for scene, drawn in made]
        return SceneBatch(self._paste(behind), texts, scenes, in_order)

    def captions(self, n: int, generator: torch.Generator) -> tuple[list[Scene], list[str]]:
        """Scenes and captions without pictures."""
        scenes = [self._scene(generator)[0] for _ in range(n)]
        return scenes, [caption(scene, generator) for scene in scenes]

    def _scene(self, generator: torch.Generator) -> tuple[Scene, list[Placed]]:
        rng = random.Random(int(torch.randint(2**62, (1,), generator=generator)))
        kind = rng.choices([*self._kinds], [*self._kinds.values()])[0]
        first = self._take(rng, None)
        style = self.styles[first] if rng.random() < self._config.styled else None
        name = self.names[first]
        if kind == "plain":
            return Scene((Thing(name, style),)), [Placed(first, _anywhere(rng, rng.randint(54, 64)))]
        if kind == "placed":
            thing, box = _placed(rng, name, style)
            return Scene((thing,)), [Placed(first, box)]
        if kind == "repeated":
            count = rng.choice((2, 2, 3))
            boxes = _row(rng) if count == 2 else _triangle(rng)
            return Scene((Thing(name, style, count),)), [Placed(first, box) for box in boxes]
        sprites = [first, *(self._take(rng, style) for _ in range(2 if kind == "triple" else 1))]
        names = [self.names[sprite] for sprite in sprites]
        if len(set(names)) < len(names):  # few names are drawn twice; the whole scene is sampled anew
            return self._scene(generator)
        relation, boxes = ("and", _triangle(rng)) if kind == "triple" else _pair(rng)
        things = tuple(Thing(one, style) for one in names)
        drawn = [Placed(sprite, box) for sprite, box in zip(sprites, boxes, strict=True)]
        return Scene(things, relation if kind == "pair" else None), drawn

    def _take(self, rng: random.Random, style: str | None) -> int:
        """A drawing's index by its share, of one style or of any."""
        sums = self._sums[style]
        return self._rows[style][min(bisect(sums, rng.random() * sums[-1]), len(sums) - 1)]

    def _paste(self, pictures: Sequence[Sequence[Placed]]) -> Tensor:
        """(n, 3, 64, 64) in -1..1: of each picture its drawings, the later over the earlier."""
        drawn = [(i, one) for i, some in enumerate(pictures) for one in some]
        rows = (
            torch.from_numpy(self.sprites[[one.sprite for _, one in drawn]]).permute(0, 3, 1, 2).float() / 255
        )
        rows[:, :3] *= rows[:, 3:]  # premultiplied: an edge must not take up what lies hidden below alpha 0
        scaled: dict[int, Tensor] = {}
        for size in {one.box[2] for _, one in drawn}:
            some = [k for k, (_, one) in enumerate(drawn) if one.box[2] == size]
            options = {"mode": "bilinear", "antialias": True, "align_corners": False}
            small = F.interpolate(rows[some], size=(size, size), **options)  # type: ignore[arg-type]
            scaled.update(zip(some, small, strict=True))
        paper = torch.ones(len(pictures), 3, SIDE, SIDE)
        for k, (i, one) in enumerate(drawn):
            left, top, size = one.box
            part = paper[i, :, top : top + size, left : left + size]
            part.mul_(1 - scaled[k][3:]).add_(scaled[k][:3])
        return paper.clamp_(0, 1) * 2 - 1


def _anywhere(rng: random.Random, size: int) -> Box:
    return rng.randint(0, SIDE - size), rng.randint(0, SIDE - size), size


def _near_middle(rng: random.Random, size: int, jitter: int) -> int:
    middle = (SIDE - size) // 2
    return min(max(middle + rng.randint(-jitter, jitter), 0), SIDE - size)


def _placed(rng: random.Random, name: str, style: str | None) -> tuple[Thing, Box]:
    """One thing of a size, or at a place."""
    where = rng.choice(("small", "small", "big", "left", "right", "top", "bottom", "corner"))
    if where == "big":
        return Thing(name, style, size="big"), _anywhere(rng, rng.randint(62, 64))
    size = rng.randint(26, 36)
    across, down = _near_middle(rng, size, 8), _near_middle(rng, size, 8)
    if where == "small":
        return Thing(name, style, size="small"), (across, down, size)
    near, far = rng.randint(0, 4), SIDE - size - rng.randint(0, 4)
    left = {"left": near, "right": far, "corner": rng.choice((near, far))}.get(where, across)
    top = {"top": near, "bottom": far, "corner": rng.choice((near, far))}.get(where, down)
    return Thing(name, style, position=where), (left, top, size)


def _row(rng: random.Random) -> list[Box]:
    """Two side by side, a little over each other where they are large."""
    one, two = rng.randint(28, 34), rng.randint(28, 34)
    free = max(0, SIDE - one - two)
    left, right = rng.randint(0, free // 2), SIDE - two - rng.randint(0, free // 2)
    return [(left, _near_middle(rng, one, 8), one), (right, _near_middle(rng, two, 8), two)]


def _pair(rng: random.Random) -> tuple[str, list[Box]]:
    """A relation, and the boxes of the first and the second thing. "and": the first is on the left."""
    relation = rng.choice(("and", "and", "and", *RELATIONS))
    if relation == "in front of":
        one, two = rng.randint(32, 38), rng.randint(32, 38)
        behind, before = rng.randint(0, 4), SIDE - one - rng.randint(0, 4)
        side = rng.random() < 0.5
        far = SIDE - two - behind
        back = (far if side else behind, rng.randint(2, 10), two)
        return relation, [
            (SIDE - one - before if side else before, SIDE - one - rng.randint(2, 10), one),
            back,
        ]
    first, second = _row(rng)
    if relation in ("above", "under"):
        first, second = ((top, left, size) for left, top, size in (first, second))
    swapped = relation in ("right of", "under")
    return relation, [second, first] if swapped else [first, second]


def _triangle(rng: random.Random) -> list[Box]:
    """Three: left and right above, the third below."""
    sizes = [rng.randint(25, 31) for _ in range(3)]
    tops = [rng.randint(0, 3), rng.randint(0, 3), SIDE - sizes[2] - rng.randint(0, 3)]
    lefts = [rng.randint(0, 3), SIDE - sizes[1] - rng.randint(0, 3), _near_middle(rng, sizes[2], 6)]
    return list(zip(lefts, tops, sizes, strict=True))


def crops(x: Tensor, boxes: Sequence[Sequence[Box]]) -> Tensor:
    """(M, 3, 64, 64): every box of pictures (n, 3, 64, 64) as large as a whole picture."""
    parts = [
        F.interpolate(x[i : i + 1, :, top : top + size, left : left + size], size=SIDE, mode="bilinear")
        for i, some in enumerate(boxes)
        for left, top, size in some
    ]
    return torch.cat(parts)
