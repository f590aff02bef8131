"""Picture grids: every picture at its place, every word whole, and the size that follows from them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fade.errors import EvaluationError
from fade.reporting.image_grid import GridRow, image_grid, png
from fade.reporting.pictures import (
    ReleaseRow,
    before_after,
    cell_grid,
    neighbourhood_grid,
    release_grid,
)
from fade.reporting.report_data import Row
from fade.reporting.theme import LIGHT, percent
from tests.unit.fade.reporting import samples

SIDE = 20
COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (200, 0, 200), (0, 200, 200)]


def solid(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.stack([np.full((8, 8, 3), colour, np.uint8) for colour in colours])


def places(image: Image.Image, colours: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """(x, y) of the first pixel of each colour; its number of pixels must be that of one picture."""
    pixels, out = np.asarray(image.convert("RGB")), []
    for colour in colours:
        ys, xs = np.nonzero((pixels == colour).all(-1))
        assert len(xs) == SIDE * SIDE, colour
        out.append((int(xs.min()), int(ys.min())))
    return out


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float, float, str]]:
    """(x, y, width, text) of every line that is drawn."""
    lines: list[tuple[float, float, float, str]] = []
    real = ImageDraw.ImageDraw.text

    def text(pen: Any, xy: tuple[float, float], words: str, font: Any, **more: Any) -> None:
        lines.append((*xy, font.getlength(words), words))
        real(pen, xy, words, font=font, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return lines


def test_before_after_has_base_left_and_erased_right_in_the_order_of_the_seeds(written: list[Any]) -> None:
    rows = [Row("panda", "target", solid(*COLOURS[:2]), solid(*COLOURS[2:4]))]
    image = before_after(rows, {"panda": (100.0, 4.17)}, "panda", side=SIDE)
    (a, y), *others = places(image, COLOURS[:4])
    xs = [a, *(x for x, _ in others)]
    assert xs == sorted(xs) and {at for _, at in others} == {y} and xs[1] - xs[0] == SIDE + 10
    words = {text: x for x, _, _, text in written}
    assert words["panda"] < xs[0] and xs[1] < words["100 %"] < xs[2] and words["4.2 %"] > xs[3]
    assert {"target", "Original", "Erased", "Before and after erasing “panda”"} <= set(words)


def test_a_grid_grows_by_a_row_a_concept_and_a_column_a_seed() -> None:
    rows, accuracies = samples.report().rows[1:3], samples.report().accuracies()
    two, four = (before_after([*rows] * n, accuracies, "panda", side=100) for n in (1, 2))
    assert four.height - two.height == 2 * (100 + 24) and four.width == two.width
    wider = [Row(r.concept, r.role, samples.pictures(4), samples.pictures(4)) for r in rows]
    assert before_after(wider, accuracies, "panda", side=100).width - two.width == 2 * (100 + 10)


def test_blocks_of_unequal_length_and_no_picture_at_all_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"panda: 2 pictures before, 3 after"):
        before_after([Row("panda", "target", samples.pictures(2), samples.pictures(3))], {}, "panda")
    for nothing in (
        lambda: before_after([], {}, "panda"),
        lambda: release_grid([]),
        lambda: neighbourhood_grid(samples.Neighborhood(), {}),
        lambda: image_grid([GridRow([samples.pictures(0)], "empty")], side=SIDE),
    ):
        with pytest.raises(EvaluationError, match="no pictures to draw"):
            nothing()


def test_the_neighbourhood_has_a_picture_a_member_with_name_role_and_cosine(written: list[Any]) -> None:
    mined = {name: solid(colour)[0] for name, colour in zip(samples.NAMES, COLOURS, strict=True)}
    image = neighbourhood_grid(samples.Neighborhood(), mined, side=SIDE)
    target, koala, bear, hamster = places(image, COLOURS[:4])
    assert koala[1] == bear[1] and koala[0] < bear[0] and target[1] < koala[1] < hamster[1]
    words = [text for *_, text in written]
    for word in ("panda", "koala", "0.910", "0.830", "0.770", "target", "neighbour", "held-out"):
        assert word in words
    folded = neighbourhood_grid(samples.Neighborhood(), mined, side=SIDE, across=1)
    assert folded.height > image.height and len(places(folded, COLOURS[:4])) == 4
    fewer = {name: picture for name, picture in mined.items() if name != "hamster"}
    assert neighbourhood_grid(samples.Neighborhood(), fewer, side=SIDE).height < image.height


def test_a_release_has_a_block_a_model_and_names_every_champion(written: list[Any]) -> None:
    def row(concept: str, champion: str, *colours: tuple[int, int, int]) -> ReleaseRow:
        return ReleaseRow(concept, "target", *(solid(colour) for colour in colours), champion)

    image = release_grid([row("panda", "p/1", *COLOURS[:3]), row("lemon", "l/2", *COLOURS[3:])], side=SIDE)
    at = places(image, COLOURS)
    assert [x for x, _ in at[:3]] == sorted(x for x, _ in at[:3]) == [x for x, _ in at[3:]]
    assert (
        {y for _, y in at[:3]} == {at[0][1]} and {y for _, y in at[3:]} == {at[3][1]} and at[3][1] > at[0][1]
    )
    words = [text for *_, text in written]
    assert words.count("Original") == words.count("Release") == 2 and {"p/1", "l/2"} <= set(words)
    written.clear()
    release_grid([row("panda", "p/1", *COLOURS[:3]), row("bear", "p/1", *COLOURS[3:])], side=SIDE)
    assert [text for *_, text in written].count("Release") == 1


def test_no_word_is_cut_and_none_lies_off_the_sheet_or_on_another(written: list[Any]) -> None:
    name = "grinning cat with smiling eyes and incomprehensibilities " * 3
    row = GridRow(
        [samples.pictures(1), samples.pictures(1)], name, "adjacent", (name, name), ("12.3 %", name)
    )
    image = image_grid([row, GridRow(row.blocks, name, "target")], side=SIDE, title="title", note=name)
    words = " ".join(text for *_, text in written)
    assert "…" not in words and words.count("incomprehensibilities") == 3 * 6
    for x, y, width, _ in written:
        assert x >= 0 and x + width <= image.width and 0 <= y < image.height
    boxes = [(x, y, x + width, y + 20) for x, y, width, _ in written]
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]


def test_pictures_without_words_stand_close_on_the_paper_that_was_asked_for() -> None:
    tight = image_grid(
        [GridRow([solid(*COLOURS[:3])]), GridRow([solid(COLOURS[3])])], side=SIDE, gap=4, paper=""
    )
    assert tight.mode == "RGBA" and tight.size == (3 * SIDE + 8, 2 * SIDE + 4)
    assert tight.getpixel((SIDE + 1, 0)) == (0, 0, 0, 0) and tight.getpixel((0, 0)) == (*COLOURS[0], 255)
    paper = image_grid([GridRow([solid(COLOURS[0])], "panda")], side=SIDE)
    assert "#{:02x}{:02x}{:02x}".format(*paper.getpixel((0, 0))) == LIGHT.paper


@pytest.mark.parametrize(
    ("side", "enlarge", "drawn"), [(8, True, 40), (300, True, 40), (8, False, 8), (300, False, 40)]
)
def test_pictures_are_scaled_to_their_side(side: int, enlarge: bool, drawn: int) -> None:
    row = GridRow([samples.pictures(1, side=side)])
    assert image_grid([row], side=40, enlarge=enlarge).size == (drawn, drawn)


def test_a_cell_s_grid_is_small_and_of_few_colours() -> None:
    body = cell_grid([samples.pictures(3, side=100), samples.pictures(2, side=100)])
    with Image.open(io.BytesIO(body)) as image:
        assert image.size == (3 * 64 + 4, 2 * 64 + 2) and len(image.getcolors()) <= 64
    assert png(Image.new("RGB", (4, 4))).startswith(b"\x89PNG")


@pytest.mark.parametrize(("value", "words"), [(100.0, "100 %"), (95.8333, "95.8 %"), (0.0, "0 %")])
def test_percent(value: float, words: str) -> None:
    assert percent(value) == words
