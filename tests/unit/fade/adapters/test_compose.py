"""Composition: the sum of the updates exactly, in one file that says what it is made of."""

from __future__ import annotations

import json

import pytest
import torch

from fade.adapters.adapter_file import read_provenance
from fade.adapters.compose import compose
from fade.adapters.lora import LoraAdapter
from fade.config import MeshConfig
from fade.errors import AdapterError
from tests.support import tiny_model, tiny_unet
from tests.unit.fade.adapters.test_lora import filled, same, snapshot

BASE = "b" * 64


def saved(path, concept, *, config, seed, neighbours=(), base=BASE):
    """An adapter file, and the change that it makes to each weight of the UNet."""
    unet = tiny_unet()
    before = snapshot(unet)
    lora = filled(unet, seed, config)
    facts = {
        "base_sha256": base,
        "concept": concept,
        "method": "fade",
        "neighbours": json.dumps(neighbours),
        "data_md5": "d",
    }
    lora.save(path, facts)
    return path, change(lora, before)


def change(lora, before):
    lora.merge()
    after = lora.base_weights()
    return {name: after[name] - before[f"{name}.weight"] for name in after}


def test_the_composition_is_the_sum(tmp_path):
    one, first = saved(
        tmp_path / "1.safetensors",
        "panda",
        config=MeshConfig(rank=2, alpha=3.0),
        seed=1,
        neighbours=["bear", "lemon"],
    )
    two, second = saved(
        tmp_path / "2.safetensors",
        "lemon",
        config=MeshConfig(rank=3, alpha=1.0, targets=("attn2.to_k",)),
        seed=2,
    )
    unet = tiny_unet()
    before = snapshot(unet)
    compose(tiny_model(unet), [one, two], tmp_path / "both.safetensors")
    assert same(before, snapshot(unet))
    lora = LoraAdapter.load(tiny_model(unet, BASE), tmp_path / "both.safetensors")
    both = change(lora, before)
    assert set(both) == set(first) and set(second) < set(first)
    for name, value in both.items():
        wanted = first[name] + second.get(name, torch.zeros(()))
        assert torch.allclose(value, wanted, atol=1e-5), name
    assert any(
        not torch.allclose(both[name], first[name], atol=1e-3) for name in second
    )  # the control: the second one counts
    facts = read_provenance(tmp_path / "both.safetensors")
    assert (
        facts["concept"] == "panda + lemon"
        and json.loads(facts["neighbours"]) == ["bear"]
        and facts["data_md5"] == "d"
    )
    assert [part["concept"] for part in json.loads(facts["parts"])] == ["panda", "lemon"]


def test_the_same_parts_give_the_same_bytes(tmp_path):
    parts = [
        saved(tmp_path / f"{i}.safetensors", name, config=MeshConfig(), seed=i)[0]
        for i, name in enumerate(("panda", "lemon"))
    ]
    digests = [compose(tiny_model(tiny_unet()), parts, tmp_path / f"{i}-both.safetensors") for i in range(2)]
    assert (
        digests[0]
        == digests[1]
        != compose(tiny_model(tiny_unet()), parts[::-1], tmp_path / "turned.safetensors")
    )


def test_what_cannot_be_composed_is_said(tmp_path):
    one, _ = saved(tmp_path / "1.safetensors", "panda", config=MeshConfig(), seed=1)
    again, _ = saved(tmp_path / "2.safetensors", "panda", config=MeshConfig(), seed=2)
    foreign, _ = saved(tmp_path / "3.safetensors", "lemon", config=MeshConfig(), seed=3, base="c" * 64)
    both, _ = saved(tmp_path / "4.safetensors", "lemon + panda", config=MeshConfig(), seed=4)
    twice = "each of another concept"
    for parts, match in (
        ([one], "two or more"),
        ([one, again], twice),
        ([one, both], twice),
        ([one, foreign], "different bases"),
    ):
        with pytest.raises(AdapterError, match=match):
            compose(tiny_model(tiny_unet()), parts, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
