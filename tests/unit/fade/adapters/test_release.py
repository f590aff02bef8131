"""A release is a function of its champions, the settings and the base, and of nothing else; what it holds
badly it names."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from fade.adapters.adapter_file import read_adapter, read_provenance
from fade.adapters.compose import compose
from fade.adapters.kept import target_prompts
from fade.adapters.lora import LoraAdapter
from fade.adapters.moments import prompt_moment
from fade.adapters.release import ReleaseBuilder, build_release, predict_release
from fade.config import MeshConfig
from fade.errors import AdapterError
from fade.generation.cache import Cache
from tests.support import forked
from tests.unit.fade.adapters.test_lora import same, snapshot
from tests.unit.fade.adapters.text_model import champion, settings, text_model

NAMES = ("panda", "tulip", "lemon")


@pytest.fixture
def champions(tmp_path: Path) -> dict[str, Path]:
    return {name: champion(tmp_path, name) for name in NAMES}


def built(paths: list[Path], out: Path, names: Any = NAMES, store: Any = None, **changes: Any) -> str:
    return build_release(text_model(), paths, out, settings(names, **changes), store).sha256


def test_the_order_of_arrival_does_not_count(champions: dict[str, Path], tmp_path: Path) -> None:
    paths = list(champions.values())
    for mode in ("solve", "sum"):
        first = built(paths, tmp_path / "a.safetensors", mode=mode)
        assert built(paths[::-1], tmp_path / "b.safetensors", mode=mode) == first
        assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_what_is_left_out_leaves_no_trace(champions: dict[str, Path], tmp_path: Path) -> None:
    """A release of all, then one without a champion beside its moments: the bytes of one that never had
    it."""
    two, all_of_them = [champions["panda"], champions["tulip"]], list(champions.values())
    for mode in ("solve", "sum"):
        store = Cache(tmp_path / f"cache-{mode}")
        whole = built(all_of_them, tmp_path / "all.safetensors", store=store, mode=mode)
        without = built(two, tmp_path / "without.safetensors", ("panda", "tulip"), store=store, mode=mode)
        never = built(two, tmp_path / "never.safetensors", ("panda", "tulip"), mode=mode)
        assert without == never != whole
        bodies = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("without", "never", "all")]
        assert bodies[0] == bodies[1] and b"lemon" not in bodies[0] and b"lemon" in bodies[2]


def test_other_settings_give_other_bytes(champions: dict[str, Path], tmp_path: Path) -> None:
    paths = list(champions.values())
    changes: list[dict[str, Any]] = [{}, {"keep_weight": 3}, {"ridge": 0.1}, {"words": 2}, {"seed": 1}]
    changes += [{"mode": "sum"}, {"templates": ["{concept}"]}]
    digests = {built(paths, tmp_path / "a.safetensors", **change) for change in changes}
    assert len(digests) == len(changes)
    same_bytes = built(paths, tmp_path / "b.safetensors", residual=0.9)  # a threshold of the sentence alone
    assert same_bytes == built(paths, tmp_path / "a.safetensors")


def test_a_sum_is_the_composition_in_the_order_of_the_concepts(
    champions: dict[str, Path], tmp_path: Path
) -> None:
    ordered = [champions[name] for name in sorted(NAMES)]
    sha256 = compose(text_model(), ordered, tmp_path / "sum.safetensors")
    assert built(list(champions.values()), tmp_path / "release.safetensors", mode="sum") == sha256


def test_a_solved_release_loads_names_how_it_was_built_and_leaves_the_model_alone(
    champions: dict[str, Path], tmp_path: Path
) -> None:
    model, out = text_model(), tmp_path / "release.safetensors"
    before = snapshot(model.denoiser)
    build_release(model, list(champions.values()), out, settings(NAMES))
    assert same(before, snapshot(model.denoiser))
    LoraAdapter.load(text_model(), out).remove()
    facts = read_provenance(out)
    assert facts["concept"] == "lemon + panda + tulip" and facts["rank"] == "6"  # three of rank 2
    assert [part["concept"] for part in json.loads(facts["parts"])] == ["lemon", "panda", "tulip"]
    own = json.loads(facts["release"])
    assert own["mode"] == "solve" and own["prompt"] == "a {concept}" and len(own["kept_sha256"]) == 64


def test_a_solved_release_meets_its_champions_and_spares_the_kept_better_than_the_sum(
    champions: dict[str, Path],
) -> None:
    paths = list(champions.values())
    found = {
        mode: predict_release(text_model(), paths, settings(NAMES, mode=mode)) for mode in ("sum", "solve")
    }
    worst = {mode: max(one["residual"] for one in some["erased"].values()) for mode, some in found.items()}
    assert worst["solve"] < 0.5 * worst["sum"]
    for group in ("used", "measured"):
        totals = {mode: some["groups"][group]["mean"] for mode, some in found.items()}
        assert totals["solve"] < totals["sum"]


def test_every_side_of_what_must_stay_counts_alike(champions: dict[str, Path]) -> None:
    """However many prompts it has."""
    model, own = text_model(), settings(NAMES, ridge=0.01, keep_weight=5.0)
    builder = ReleaseBuilder(model, list(champions.values()), own)
    assert len({len(prompts) for prompts in builder.kept_sides.values()}) > 2
    kept = sum(prompt_moment(model, prompts) for prompts in builder.kept_sides.values())
    kept, layer = kept / len(builder.kept_sides), next(iter(builder.layers))
    targets = [target_prompts([name], own.prompt, own.config) for name in sorted(NAMES)]
    moments = [prompt_moment(model, prompts) for prompts in targets]
    matrix = sum(moments) + 5 * kept + 0.01 * kept.trace() / len(kept) * torch.eye(len(kept)).double()
    goal = sum(
        up @ down @ moment
        for (up, down), moment in zip((one[layer] for one in builder.changes), moments, strict=True)
    )
    up, down = builder.release[layer]
    expected = torch.linalg.solve(matrix, goal.T).T
    assert float((up @ down - expected).norm() / expected.norm()) < 1e-5


def test_layers_that_read_the_picture_are_added_up(tmp_path: Path) -> None:
    """And a champion that has no text layer at all is met with no change on its own states."""
    every = MeshConfig(rank=1, alpha=2.0, targets=("all",))
    paths = [champion(tmp_path, name, config=every) for name in ("panda", "tulip")]
    out, total = tmp_path / "release.safetensors", tmp_path / "sum.safetensors"
    names = ("panda", "tulip")
    predicted = build_release(text_model(), paths, out, settings(names)).predicted
    compose(text_model(), paths, total)
    changes = [weights(path) for path in (out, total)]
    text = {name for name in changes[0] if name.endswith(("attn2.to_k", "attn2.to_v"))}
    for name in changes[0]:
        assert torch.allclose(changes[0][name], changes[1][name], atol=1e-6) == (name not in text), name
    assert predicted["added_layers"] == len(changes[0]) - len(text) and predicted["layers"] == len(text) > 0
    for path, name in zip(paths, names, strict=True):
        sizes = {layer: float(change.square().sum()) for layer, change in weights(path).items()}
        outside = 100 * sum(size for layer, size in sizes.items() if layer not in text) / sum(sizes.values())
        assert predicted["erased"][name]["outside"] == pytest.approx(outside, rel=1e-3) != 50


def weights(path: Path) -> dict[str, Any]:
    """Layer -> the update that a file makes to it."""
    facts, state = read_adapter(path)
    scale = float(facts["alpha"]) / int(facts["rank"])
    ends = {name.removesuffix(".lora_A.weight") for name in state if name.endswith("lora_A.weight")}
    return {
        name: scale * state[f"{name}.lora_B.weight"].flatten(1) @ state[f"{name}.lora_A.weight"].flatten(1)
        for name in ends
    }


# Room.


def test_a_rank_that_is_too_low_is_named_with_the_concept_that_breaks_first(
    champions: dict[str, Path], tmp_path: Path
) -> None:
    paths = list(champions.values())
    predicted = predict_release(text_model(), paths, settings(NAMES, rank=1, residual=0.4))
    erased = predicted["erased"]
    first = max(erased, key=lambda name: erased[name]["residual"])
    assert predicted["rank"] == 1 and erased[first]["without_rank"] < 0.4 < erased[first]["residual"]
    assert predicted["breaks"].startswith(f"{first!r} breaks first: ")
    assert "the rank 1 is too low for 3 champions" in predicted["breaks"]
    assert predict_release(text_model(), paths, settings(NAMES, residual=0.4))["breaks"] == ""
    built(paths, tmp_path / "a.safetensors", rank=1)
    assert read_provenance(tmp_path / "a.safetensors")["rank"] == "1"


def test_where_there_is_no_room_for_two_the_concept_and_the_other_are_named(tmp_path: Path) -> None:
    """The text encoder makes the same states of both: one of the two changes cannot be met."""
    names = ("panda", "bear", "tulip")
    paths = [champion(tmp_path, name, answers_to="bear" if name == "panda" else name) for name in names]
    predicted = predict_release(text_model(alike={"panda": "bear"}), paths, settings(names))
    assert "breaks first" in predicted["breaks"] and "no room beside" in predicted["breaks"]
    assert predicted["breaks"].count("'panda'") and predicted["breaks"].count("'bear'")
    assert "tulip" not in predicted["breaks"] and predicted["erased"]["tulip"]["residual"] < 0.25


def test_where_a_kept_concept_has_the_targets_states_what_must_stay_is_named(tmp_path: Path) -> None:
    names = ("panda", "tulip")
    paths = [champion(tmp_path, name, answers_to="koala" if name == "panda" else name) for name in names]
    alike, own = text_model(alike={"panda": "koala"}), settings(names, residual=0.5)
    assert "'panda' breaks first" in (text := predict_release(alike, paths, own)["breaks"])
    assert "no room beside what must stay" in text and "tulip" not in text


def test_a_sum_beyond_the_largest_rank_names_the_first_without_room(
    champions: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fade.adapters.compose.MAX_RANK", 5)
    with pytest.raises(AdapterError, match=r"rank 6, more than 5: 'tulip' is the first"):
        built(list(champions.values()), tmp_path / "a.safetensors", mode="sum")


def test_an_erased_concept_that_is_anothers_only_neighbour_is_named_and_met(tmp_path: Path) -> None:
    names = ("panda", "bear")
    paths = [
        champion(tmp_path, "panda", neighbours=["bear"]),
        champion(tmp_path, "bear", neighbours=["panda", "koala"]),
    ]
    builder = ReleaseBuilder(text_model(), paths, settings(names, neighbours=("koala",)))
    predicted = builder.predict()
    assert predicted["no_neighbour"] == ["panda"]
    kept = [prompt for prompts in builder.kept_sides.values() for prompt in prompts]
    assert not any("bear" in prompt or "panda" in prompt for prompt in kept)
    assert any("koala" in prompt for prompt in builder.kept_sides["neighbours"])
    assert predicted["erased"]["panda"]["residual"] < 0.25


# A build that was killed.


def test_a_build_that_was_killed_goes_on_to_the_same_bytes(
    champions: dict[str, Path], tmp_path: Path
) -> None:
    paths, store = list(champions.values()), Cache(tmp_path / "cache")
    whole = built(paths, tmp_path / "whole.safetensors")

    def die_at_the_fourth_call() -> None:
        model = text_model()
        encode = model.encode_batch

        def encode_batch(prompts: Any) -> Any:
            if len(model.calls) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return encode(prompts)

        model.encode_batch = encode_batch
        build_release(model, paths, tmp_path / "out.safetensors", settings(NAMES), store)

    assert forked(die_at_the_fourth_call) == -signal.SIGKILL
    assert not (tmp_path / "out.safetensors").exists()
    stored = list(tmp_path.rglob("cache/moments/*.safetensors"))
    assert len(stored) == 3
    model = text_model()
    again = build_release(model, paths, tmp_path / "out.safetensors", settings(NAMES), store)
    assert again.sha256 == whole
    fresh = text_model()
    build_release(fresh, paths, tmp_path / "fresh.safetensors", settings(NAMES), Cache(tmp_path / "other"))
    assert len(model.calls) == len(fresh.calls) - 3  # what was stored is not made twice


@pytest.mark.parametrize("damage", ["cut", "another number", "another key's"])
def test_a_stored_moment_that_was_changed_is_made_again(
    champions: dict[str, Path], tmp_path: Path, damage: str
) -> None:
    paths, store = list(champions.values()), Cache(tmp_path / "cache")
    whole = built(paths, tmp_path / "whole.safetensors", store=store)
    first, second = sorted((tmp_path / "cache" / "moments").glob("*.safetensors"))[:2]
    body = first.read_bytes()
    damaged = {"cut": body[:-8], "another number": body[:-8] + bytes(8), "another key's": second.read_bytes()}
    first.write_bytes(damaged[damage])
    assert built(paths, tmp_path / "again.safetensors", store=store) == whole
    assert first.read_bytes() == body


# What does not belong together.


@pytest.mark.parametrize("mode", ["sum", "solve"])
def test_what_does_not_belong_together_is_named(tmp_path: Path, mode: str) -> None:
    panda, other_base = champion(tmp_path, "panda"), champion(tmp_path, "tulip", base="c" * 64)
    twin, both = champion(tmp_path, "P\u0430nda"), champion(tmp_path, "lemon + panda")  # a Cyrillic letter
    foreign = champion(tmp_path, "rose")
    body = foreign.read_bytes()
    assert body.count(b'"fade.family":"Stable Diffusion"') == 1
    foreign.write_bytes(
        body.replace(b'"fade.family":"Stable Diffusion"', b'"fade.family":"Stable Diffusios"')
    )
    for paths, message in (
        ([panda], "1 adapter"),
        ([panda, twin], "each of another concept"),
        ([panda, both], "each of another concept"),
        ([panda, other_base], r"different bases: bbbbbbbbbbbb, cccccccccccc"),
        ([panda, foreign], r"several families: 'panda' Stable Diffusion, 'rose' Stable Diffusios"),
    ):
        with pytest.raises(AdapterError, match=message):
            built(paths, tmp_path / "out.safetensors", ("panda",), mode=mode)
    assert not (tmp_path / "out.safetensors").exists()
