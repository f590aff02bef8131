"""Text towers learn the sentence encoder's geometry and to name what captions are about."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from fade.config import SightConfig, TextConfig
from fade.judges.supervised_loop import Training
from fade.models.text import token_ids
from fade.pretrain import clip, text
from fade.pretrain.captions import Scene, Thing, words_of
from fade.pretrain.tokenizer import build_t5_tokenizer
from tests.unit.fade.pretrain.support import NAMES, STYLES, embeddings, sampler, tokenizer

SMALL = TextConfig(steps=60, batch_size=16, lr=3e-3, ema=0.5, hidden=32, layers=1, heads=2, activation="gelu")


def test_a_scenes_meaning_is_the_mean_of_its_names_and_a_little_of_its_style() -> None:
    meaning = text.Meaning(embeddings())
    one, both = Scene((Thing("red ball"),)), Scene((Thing("red ball"), Thing("red hat")), "and")
    mean = F.normalize(embeddings()["red ball"] + embeddings()["red hat"], dim=0)
    assert torch.allclose(meaning.of([one, both]), torch.stack([embeddings()["red ball"], mean]))
    plain, bold = (Scene((Thing("red ball", style),)) for style in STYLES)
    goal = meaning.goal([plain, plain, bold, one])
    assert goal[0].tolist() == pytest.approx([1.0, 1.0, 1 - text.STYLE_SHARE, 1 - text.STYLE_SHARE / 2])


@pytest.mark.parametrize("kind", ["clip", "t5"])
def test_a_tower_ends_closer_to_the_geometry_and_names_what_it_reads(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    if kind == "t5":
        from transformers import T5TokenizerFast

        build_t5_tokenizer(words_of(NAMES, STYLES), 28, tmp_path / "words")
        words = T5TokenizerFast.from_pretrained(tmp_path / "words")
        tower = text.build_t5(SMALL, words)
    else:
        words = tokenizer(tmp_path / "words")
        tower = text.build_clip(SMALL, words)
    scenes, lines = sampler().captions(32, torch.Generator().manual_seed(1))
    meaning = text.Meaning(embeddings())

    def geometry() -> float:
        reader = text.Reader(tower, NAMES, STYLES)
        with torch.no_grad():
            features, *_ = reader.read(token_ids(words, lines, text.CPU), words.pad_token_id)
        return float(text.off_diagonal(features @ features.T - meaning.goal(scenes)))

    before = geometry()
    logs: list[dict[str, float]] = []
    training = Training(tmp_path / "run", 0, lambda step, steps, found: logs.append(found))
    text.train(tower, words, sampler(), meaning, SMALL, training)
    assert geometry() < 0.5 * before
    for term in ("naming", "token_naming", *(["order"] if kind == "clip" else [])):
        assert sum(one[term] for one in logs[-10:]) < 0.8 * sum(one[term] for one in logs[:10])
    assert not any(parameter.requires_grad for parameter in tower.parameters())


def test_sight_trains_the_image_tower_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    words = tokenizer(tmp_path / "words")
    config = SightConfig(steps=60, batch_size=16, lr=3e-3, ema=0.5, hidden=16, layers=1, heads=2, patch=16)
    model = clip.build(text.build_clip(SMALL, words), config)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    logs: list[dict[str, float]] = []
    training = Training(tmp_path / "run", 0, lambda step, steps, found: logs.append(found))
    clip.train(model, words, sampler(), config, training)
    changed = {
        name.split(".")[0] for name, one in model.named_parameters() if not torch.equal(one, before[name])
    }
    assert changed == {"vision_model", "visual_projection", "logit_scale"}
    assert all(logs[-1][term] < logs[0][term] for term in ("naming", "alignment", "geometry"))
    assert logs[-1]["loss"] < 0.7 * logs[0]["loss"]


def test_a_picture_is_named_by_what_it_shows_in_equal_shares() -> None:
    ball, hat = Scene((Thing("red ball"),)), Scene((Thing("red hat"),))
    both = Scene((Thing("red ball"), Thing("red hat")), "and")
    columns = {"blue box": 0, "red ball": 1, "red hat": 2}
    shares = clip.shown_names([ball, hat, both], columns)
    assert shares.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0.5, 0.5]]


def test_names_have_the_text_towers_features(tmp_path: Path) -> None:
    words = tokenizer(tmp_path / "words")
    config = SightConfig(steps=1, batch_size=2, lr=1e-3, hidden=16, layers=1, heads=2, patch=16)
    tower = text.build_clip(SMALL, words).eval()
    found = clip.name_features(clip.build(tower, config).eval(), words, ["red ball", "red hat"])
    with torch.no_grad():
        ids = token_ids(words, ["a red ball", "a red hat"], text.CPU)
        expected = torch.nn.functional.normalize(tower(input_ids=ids).text_embeds, dim=-1)
    assert torch.allclose(found, expected, atol=1e-6) and not torch.allclose(found[0], found[1])


def test_what_follows_a_caption_names_its_things_in_turn_and_then_nothing(tmp_path: Path) -> None:
    words = tokenizer(tmp_path / "words")
    ball, hat = Thing("red ball"), Thing("red hat")
    scenes = [Scene((ball, hat), "and"), Scene((ball,)), Scene((Thing("red ball", count=2),))] * 40
    captions = ["a red ball and a red hat", "a red ball", "two red balls"] * 40
    expected = [["red ball", "red hat", ""], ["red ball", "", ""], ["red ball", "red ball", ""]] * 40
    ids = token_ids(words, captions, text.CPU)
    generator = torch.Generator().manual_seed(0)
    marked = text.slots(ids, words.pad_token_id, scenes, generator)
    end = (ids == words.eos_token_id).int().argmax(1).tolist()
    assert all(one.place > end[one.row] for one in marked)
    assert [(one.row, one.place % 3) for one in marked] == [
        (row, slot) for row in range(120) for slot in range(3)
    ]
    assert [one.thing.name for one in marked] == [name for names in expected for name in names]
    assert [one.order for one in marked] == [0, 1, 2] * 120
    assert len({one.place for one in marked}) > 3  # another place each time


def test_the_end_of_a_name_names_it_alone_whatever_stands_before(tmp_path: Path) -> None:
    words = tokenizer(tmp_path / "words")
    ball, hat = Thing("red ball", "flat"), Thing("red hat")
    scenes = [Scene((ball,)), Scene((hat, ball), "above"), Scene((Thing("red ball", count=2),))]
    captions = ["a red ball in the flat style", "a red hat above a red ball", "two red balls"]
    ids = token_ids(words, captions, text.CPU)
    forms = {"red ball": ["red ball", "red balls"], "red hat": ["red hat", "red hats"]}
    marked = text.name_ends(
        ids, lambda name: words(forms[name], add_special_tokens=False)["input_ids"], scenes
    )
    assert [(one.row, one.thing, one.order) for one in marked] == [
        (0, Thing("red ball"), 0),
        (1, Thing("red hat"), 0),
        (1, Thing("red ball"), 1),
        (2, Thing("red ball"), 0),
    ]
    ends = [words.decode(ids[one.row, : one.place + 1], skip_special_tokens=True) for one in marked]
    assert ends == ["a red ball", "a red hat", "a red hat above a red ball", "two red balls"]
    assert text.name_ends(ids, lambda name: [], scenes) == []


def test_nothing_has_no_direction() -> None:
    meaning = text.Meaning({"ball": torch.tensor([1.0, 0.0]), "hat": torch.tensor([0.6, 0.8])})
    scenes = [Scene((Thing("ball"),)), Scene((Thing("hat"),)), Scene((text.NOTHING,))]
    cosines = meaning.of(scenes) @ meaning.of(scenes).T
    assert cosines[0, 1].item() == pytest.approx(0.6) and cosines[2].tolist() == [0, 0, 0]
    with pytest.raises(KeyError):
        meaning.of([Scene((Thing("unknown"),))])
