"""Scenes: the pictures are what their captions describe."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from fade.config import SceneMix
from fade.errors import DataError
from fade.pretrain.captions import RELATIONS
from fade.pretrain.scenes import CELL, SceneBatch, SceneSampler

MIX = SceneMix(plain=0.2, placed=0.2, repeated=0.15, pair=0.3, triple=0.15, styled=0.3)
NONE = SceneMix(plain=0, placed=0, repeated=0, pair=1, triple=0, styled=0)
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "black": (0, 0, 0)}


def sprites() -> tuple[Tensor, list[str], list[str]]:
    """Each colour as a disc ("round") and as a wide rectangle ("wide")."""
    steps = (torch.arange(64) - 31.5) ** 2
    disc = steps[:, None] + steps[None, :] < 32**2
    wide = (steps[:, None] < 20**2).expand(64, 64)
    names, styles, drawings = [], [], []
    for style, shape in (("round", disc), ("wide", wide)):
        for name, colour in COLOURS.items():
            pixels = torch.tensor([*colour, 255], dtype=torch.uint8) * shape[..., None]
            drawings.append(pixels)
            names.append(name)
            styles.append(style)
    return torch.stack(drawings).to(torch.uint8), names, styles


def sample(mix: SceneMix, n: int = 64, seed: int = 0) -> SceneBatch:
    drawings, names, styles = sprites()
    sampler = SceneSampler(drawings, names, styles, torch.ones(len(names)), mix)
    return sampler.batch(n, torch.Generator().manual_seed(seed))


def middles(boxes: Tensor) -> Tensor:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def test_a_batch_follows_the_generator_alone() -> None:
    one, two, other = sample(MIX), sample(MIX), sample(MIX, seed=1)
    assert torch.equal(one.x, two.x) and one.captions == two.captions and one.scenes == two.scenes
    assert not torch.equal(one.x, other.x) and one.captions != other.captions
    assert one.x.shape == (64, 3, 64, 64) and one.x.min() >= -1.0001 and one.x.max() <= 1.0001


def test_the_boxes_hold_all_colour_and_lie_in_the_picture() -> None:
    batch = sample(MIX, 200)
    position = torch.arange(64) + 0.5
    for picture, boxes in zip(batch.x, batch.boxes, strict=True):
        outside = torch.ones(64, 64, dtype=torch.bool)
        for x0, y0, x1, y1 in boxes.tolist():
            rows, columns = (
                (position > y0 - 1) & (position < y1 + 1),
                (position > x0 - 1) & (position < x1 + 1),
            )
            outside &= ~(rows[:, None] & columns[None, :])
        assert (picture[:, outside] > 0.8).all()  # white; the antialiased rim may reach a little further
        inside = boxes.clamp(0, 64)
        share = (inside[:, 2:] - inside[:, :2]).prod(1) / (boxes[:, 2:] - boxes[:, :2]).prod(1)
        assert (share >= 0.85).all()


def test_sizes_positions_and_counts_are_those_of_the_caption() -> None:
    seen = set()
    for scene, boxes in zip(*(lambda b: (b.scenes, b.boxes))(sample(MIX, 400)), strict=True):
        thing, side = scene.things[0], float((boxes[:, 2:] - boxes[:, :2]).max())
        if len(scene.things) > 1:
            continue
        assert len(boxes) == thing.count
        seen |= {thing.size, thing.position, thing.count, scene.plain}
        x, y = middles(boxes)[0].tolist()
        far = {"left": 30 - x, "right": x - 34, "top": 30 - y, "bottom": y - 34}
        far["corner"] = min(abs(x - 32), abs(y - 32)) - 8
        assert thing.position is None or far[thing.position] > 0
        assert thing.size != "small" or side <= 38
        if thing.size == "big" or scene.plain:
            assert side >= 55
    assert seen >= {"small", "big", "left", "right", "top", "bottom", "corner", 2, 3, True, False}


def test_the_relation_is_where_the_boxes_are() -> None:
    batch = sample(NONE, 400)
    assert {scene.relation for scene in batch.scenes} == set(RELATIONS)
    for scene, boxes in zip(batch.scenes, batch.boxes, strict=True):
        assert scene.things[0].name != scene.things[1].name
        x, y = (middles(boxes)[0] - middles(boxes)[1]).tolist()
        obeyed = {
            "next to": x < -20,
            "left of": x < -20,
            "right of": x > 20,
            "above": y < -20,
            "under": y > 20,
        }
        obeyed["and"] = x < -20
        low, high = torch.maximum(boxes[0, :2], boxes[1, :2]), torch.minimum(boxes[0, 2:], boxes[1, 2:])
        obeyed["in front of"] = bool((high > low).all())
        assert obeyed[scene.relation or ""], (scene.relation, x, y)


def test_what_is_in_front_hides_what_is_behind() -> None:
    batch, fronts = sample(NONE, 400), 0
    for picture, scene, boxes in zip(batch.x, batch.scenes, batch.boxes, strict=True):
        wide = all(float((b[2] - b[0]) / (b[3] - b[1])) > 1.3 for b in boxes)
        if scene.relation != "in front of" or not wide:
            continue
        low, high = torch.maximum(boxes[0, :2], boxes[1, :2]), torch.minimum(boxes[0, 2:], boxes[1, 2:])
        if (high - low).min() < 6:
            continue
        x, y = ((low + high) / 2).long().tolist()
        colour = torch.tensor(COLOURS[scene.things[0].name]) / 127.5 - 1
        assert torch.allclose(picture[:, y, x], colour, atol=0.1)
        fronts += 1
    assert fronts > 3


def test_several_things_have_different_names_and_a_named_style_is_that_of_all() -> None:
    mix = SceneMix(plain=0, placed=0, repeated=0, pair=0.5, triple=0.5, styled=0.5)
    batch, (_, names, styles) = sample(mix, 200), sprites()
    shown = 0
    for scene, rows in zip(batch.scenes, batch.sprites, strict=True):
        assert [thing.name for thing in scene.things] == [names[row] for row in rows]
        assert len({thing.name for thing in scene.things}) == len(rows)
        if scene.things[0].style:
            shown += 1
            assert {styles[row] for row in rows} == {scene.things[0].style}
    assert shown > 20


def test_shares_choose_and_transparent_pixels_stay_white() -> None:
    drawings, names, styles = sprites()
    shares = [
        1.0 if name == "red" and style == "wide" else 0.0 for name, style in zip(names, styles, strict=True)
    ]
    plain = SceneMix(plain=1, placed=0, repeated=0, pair=0, triple=0, styled=0)
    drawings[..., :3][drawings[..., 3] == 0] = 90  # the colour of what is transparent is never seen
    batch = SceneSampler(drawings, names, styles, shares, plain).batch(16, torch.Generator().manual_seed(0))
    assert {row for rows in batch.sprites for row in rows} == {shares.index(1.0)}
    assert (batch.x[:, :, :3] > 0.999).all()


def test_faults_are_named() -> None:
    drawings, names, styles = sprites()
    with pytest.raises(ValidationError, match="sum to"):
        SceneMix(plain=0.5, placed=0.2, repeated=0.15, pair=0.3, triple=0.15, styled=0.3)
    empty = drawings.clone()
    empty[3] = 0
    with pytest.raises(DataError, match="drawing 3 "):
        SceneSampler(empty, names, styles, torch.ones(8), MIX)
    with pytest.raises(DataError, match="3 things"):
        SceneSampler(drawings[:2], names[:2], styles[:2], torch.ones(2), MIX)


def test_a_drawing_has_the_same_pixels_in_every_cell_where_it_lies() -> None:
    mix = SceneMix(plain=0, placed=0, repeated=0, pair=1, triple=0, styled=0)
    batch = sample(mix, 200)
    seen: dict[int, Tensor] = {}
    compared = 0
    for picture, scene, boxes, rows in zip(batch.x, batch.scenes, batch.boxes, batch.sprites, strict=True):
        if scene.relation == "in front of":
            continue
        for (x0, y0, *_), row in zip(boxes.int().tolist(), rows, strict=True):
            cell = picture[:, y0 // CELL * CELL :, x0 // CELL * CELL :][:, : 4 * CELL, : 4 * CELL]
            if y0 % CELL == 1:  # a disc fills its four cells but for the gap; what is wide lies lower in them
                compared += row in seen
                assert torch.equal(seen.setdefault(row, cell), cell)
    assert compared > 50
