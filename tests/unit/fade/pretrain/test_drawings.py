"""The recipe of the drawings by its own rules, and how a drawing becomes pixels."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fade.config import PretrainConfig
from fade.data.manifest import MANIFEST, read_manifest
from fade.data.vocabulary import Concept, Vocabulary
from fade.pretrain import drawings
from fade.pretrain.sets import Sets

LICENCES = {"Apache-2.0", "MIT", "CC-BY-4.0"}
RECIPE = drawings.load_recipe()
STYLES: dict[str, Any] = RECIPE["styles"]
FAMILIES: dict[str, Any] = RECIPE["families"]
CONCEPTS = {concept: named for family in FAMILIES.values() for concept, named in family["concepts"].items()}


def styles_of(concept: str) -> list[str]:
    return [style for style in STYLES if CONCEPTS[concept].get(style, "") is not None]


@pytest.mark.parametrize("concept", CONCEPTS)
def test_a_concept_has_six_drawings_five_training_artists_and_a_heldout_drawing(concept: str) -> None:
    artists = {STYLES[style]["artist"] for style in styles_of(concept)}
    heldout = RECIPE["heldout_artist"]
    assert len(styles_of(concept)) >= 6 and len(artists - {heldout}) >= 5 and heldout in artists
    assert set(CONCEPTS[concept]) <= set(STYLES)


def test_there_are_enough_concepts_and_most_families_are_large() -> None:
    sizes = [len(family["concepts"]) for family in FAMILIES.values()]
    assert len(CONCEPTS) == sum(sizes) >= 110 and len(sizes) >= 10  # no concept in two families
    assert min(sizes) >= 6 and sum(size >= 11 for size in sizes) > len(sizes) / 2
    assert {family["kind"] for family in FAMILIES.values()} == {"tight", "loose"}


def test_sisters_are_known_families_and_each_others() -> None:
    for family, sisters in RECIPE["sisters"].items():
        assert family in FAMILIES and family not in sisters and len(set(sisters)) == len(sisters)
        assert all(family in RECIPE["sisters"][sister] for sister in sisters), family


def test_names_differ_beyond_case_and_plural() -> None:
    def singular(name: str) -> str:
        return " ".join(word.removesuffix("s") for word in name.lower().replace("-", " ").split())

    assert len({singular(concept) for concept in CONCEPTS}) == len(CONCEPTS)
    pairs = ((c, family) for family, members in FAMILIES.items() for c in members["concepts"])
    assert len(Vocabulary(tuple(Concept(*pair) for pair in pairs), tuple(STYLES))) == len(CONCEPTS)


def test_no_drawing_shows_two_concepts() -> None:
    shown = [
        (style, str(CONCEPTS[concept].get(style, concept.replace(" ", "-"))))
        for concept in CONCEPTS
        for style in styles_of(concept)
    ]
    assert len(set(shown)) == len(shown)


def test_every_concept_of_the_benchmark_and_every_licence_is_permitted() -> None:
    assert {style["licence"] for style in STYLES.values()} == LICENCES
    assert {"panda", "lemon", "tulip", "grinning cat", "red heart"} <= set(CONCEPTS)


def test_a_package_is_fetched_anew_when_the_recipe_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(spec: str, integrity: str, work: Path) -> None:
        fetched.append(spec)
        (work / "icons.json").write_text(spec)

    fetched: list[str] = []
    monkeypatch.setattr(drawings, "_fetch", fetch)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "icons.json").write_text("unpacked by hand")
    own = {"package": "own", "version": "1", "integrity": "c"}
    for version, integrity in (("1", "a"), ("1", "a"), ("2", "b")):
        ink = {"package": "ink", "version": version, "integrity": integrity}
        drawings.fetch_packages({"styles": {"ink": ink, "own": own}}, tmp_path)
    assert fetched == ["ink@1", "ink@2"]
    assert (tmp_path / "ink" / "icons.json").read_text() == "ink@2"
    assert (tmp_path / "own" / "icons.json").read_text() == "unpacked by hand"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[[Image.Image], drawings.Drawing]:
    """A drawing whose renderer gives the picture."""

    def make(picture: Image.Image) -> drawings.Drawing:
        buffer = BytesIO()
        picture.save(buffer, "PNG")
        renderer = SimpleNamespace(svg_to_bytes=lambda **_: buffer.getvalue())
        monkeypatch.setitem(sys.modules, "resvg_py", renderer)
        return drawings.Drawing("panda", "", "noto", "<svg/>", picture.width >= picture.height, {})

    return make


def test_a_sprite_is_centred_on_transparent_ground_with_straight_alpha(
    drawn: Callable[[Image.Image], drawings.Drawing],
) -> None:
    sprite = drawings.render_rgba(drawn(Image.new("RGBA", (64, 32), (200, 100, 50, 128))))
    assert sprite.shape == (64, 64, 4) and sprite.dtype == np.uint8
    assert (sprite[16:48] == (200, 100, 50, 128)).all()  # colours are not multiplied by alpha
    assert not sprite[:16].any() and not sprite[48:].any()


def test_a_picture_is_its_sprite_on_white_byte_for_byte(
    drawn: Callable[[Image.Image], drawings.Drawing],
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 40, 4), dtype=np.uint8)
    picture = Image.fromarray(noise)
    white = Image.new("RGBA", (64, 64), "white")
    white.alpha_composite(picture, (12, 0))
    drawing = drawn(picture)
    assert drawings.render(drawing).tobytes() == white.convert("RGB").tobytes()
    assert drawings.render(drawing).mode == "RGB"


def one_concept(packages: Path) -> dict[str, Any]:
    """A recipe of one concept in a training and a held-out style, with its packages."""
    styles = {
        style: {"package": style, "version": "1", "licence": "MIT", "artist": style}
        for style in ("ink", "chalk")
    }
    for style in styles:
        icons = '{"width": 8, "height": 8, "icons": {"panda": {"body": ""}, "red-car": {"body": ""}}}'
        (packages / style).mkdir(parents=True)
        (packages / style / "icons.json").write_text(icons, encoding="utf-8")
    families = {"bears": {"kind": "loose", "concepts": {"panda": {}}}}
    return {"styles": styles, "heldout_artist": "chalk", "families": families}


def test_sprites_are_the_training_drawings_and_the_corpus_is_all_others(
    tmp_path: Path, drawn: Callable[[Image.Image], drawings.Drawing]
) -> None:
    recipe = one_concept(tmp_path)
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[20:40, 20:40] = (10, 20, 30, 255)
    drawn(Image.fromarray(pixels))
    drawings.write_vocabulary(recipe, tmp_path, tmp_path / "drawings")
    sprites = drawings.render_sprites(recipe, tmp_path)
    train = read_manifest(tmp_path / "drawings" / MANIFEST).query("split == 'train'")
    assert len(train) == 1 and np.array_equal(sprites, pixels[None])
    shown = np.asarray(Image.open(tmp_path / "drawings" / train["path"].iloc[0]))
    assert np.array_equal(shown, drawings.on_white(sprites[0]))
    corpus, names, styles = drawings.render_corpus(recipe, tmp_path, lambda done, total: None)
    assert np.array_equal(corpus, pixels[None]) and (names, styles) == (["red car"], ["ink"])
    for stage, found in (("sprites", sprites), ("corpus", corpus)):
        (tmp_path / stage).mkdir()
        np.save(tmp_path / stage / "sprites.npy", found)
    words = '{"names": ["red car"], "styles": ["ink"]}'
    (tmp_path / "corpus" / "words.json").write_text(words, encoding="utf-8")
    sets = Sets.load(tmp_path, PretrainConfig())
    assert np.array_equal(sets.pixels[0].numpy(), shown) and sets.names == ["panda"]
    assert np.array_equal(sets.corpus, corpus) and sets.labels == ["panda"]
