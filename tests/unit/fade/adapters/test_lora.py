"""Mesh: where it goes, off = teacher bit for bit, merge and unmerge exact, files that load elsewhere and
refuse what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fade.adapters.adapter_file import read_adapter, read_provenance
from fade.adapters.lora import LoraAdapter
from fade.config import MeshConfig
from fade.errors import AdapterError
from tests.support import DEEP, tiny_model, tiny_unet

CONFIG = MeshConfig(rank=2, alpha=3.0)  # alpha != rank: the scale must survive a file
PROVENANCE = {"base_sha256": "b" * 64, "concept": "grinning cat \U0001f638", "neighbours": '["a", "b"]'}


def output(unet):
    generator = torch.Generator().manual_seed(7)
    x, emb = torch.randn(3, 4, 8, 8, generator=generator), torch.randn(3, 5, 32, generator=generator)
    with torch.no_grad():
        return unet(x, torch.tensor([1, 500, 999]), encoder_hidden_states=emb).sample


def filled(unet, seed=0, config=CONFIG):
    """A mesh with an effect: ``up`` is no longer zero."""
    lora = LoraAdapter.insert(tiny_model(unet), config, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in lora.named_parameters().items():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return lora


def snapshot(unet):
    return {name: value.clone() for name, value in unet.state_dict().items()}


def same(a, b):
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("linear", [False, True], ids=["conv projections", "linear projections"])
def test_targets_are_every_linear_and_1x1_conv_of_every_transformer(linear):
    unet = tiny_unet(**DEEP, use_linear_projection=linear)
    wanted = []
    for block, module in unet.named_modules():
        if type(module).__name__ == "Transformer2DModel":
            for name, part in module.named_modules():
                if isinstance(part, torch.nn.Linear) or (
                    isinstance(part, torch.nn.Conv2d) and part.kernel_size == (1, 1)
                ):
                    wanted.append(f"{block}.{name}")
    assert len(wanted) == 4 * 12  # four transformers of 4 + 4 attention, 2 feed-forward, 2 projections
    assert sorted(tiny_model(unet).layers(MeshConfig().targets)) == sorted(wanted)
    kinds = {type(unet.get_submodule(name)) for name in wanted if name.endswith("proj_in")}
    assert kinds == {torch.nn.Linear if linear else torch.nn.Conv2d}


@pytest.mark.parametrize("linear", [False, True])
def test_every_adapter_has_an_effect_and_a_gradient(linear):
    unet = tiny_unet(**DEEP, use_linear_projection=linear)
    before = output(unet)
    lora = filled(unet)
    assert not torch.equal(output(unet), before)
    unet(
        torch.randn(2, 4, 8, 8), torch.tensor([3, 4]), encoder_hidden_states=torch.randn(2, 5, 32)
    ).sample.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in lora.parameters())
    assert [n for n, p in unet.named_parameters() if p.requires_grad and "lora" not in n] == []


def test_a_target_outside_the_transformers_is_refused():
    with pytest.raises(AdapterError, match="time_emb_proj"):
        tiny_model(tiny_unet()).layers(("to_q", "time_emb_proj"))


def test_a_fresh_mesh_changes_nothing_and_is_drawn_from_its_seed_alone():
    unet = tiny_unet()
    before = output(unet)
    torch.manual_seed(1)
    first = LoraAdapter.insert(tiny_model(unet), CONFIG, seed=5)
    assert torch.equal(output(unet), before)
    state = first.state_dict()
    drawn = torch.rand(1)
    first.remove()
    torch.manual_seed(1)
    again = LoraAdapter.insert(tiny_model(unet), CONFIG, seed=5)
    assert torch.equal(torch.rand(1), drawn), "insert moved the global random state"
    assert same(again.state_dict(), state)
    again.remove()
    torch.manual_seed(99)
    other_state, other_seed = (
        LoraAdapter.insert(tiny_model(tiny_unet()), CONFIG, seed=5),
        LoraAdapter.insert(tiny_model(unet), CONFIG, seed=6),
    )
    assert same(other_state.state_dict(), state)
    assert not same(other_seed.state_dict(), state)
    assert all(not bool(v.any()) for k, v in state.items() if "lora_B" in k)
    assert all(bool(v.any()) for k, v in state.items() if "lora_A" in k)


def test_a_second_mesh_is_refused():
    unet = tiny_unet()
    LoraAdapter.insert(tiny_model(unet), CONFIG, seed=0)
    with pytest.raises(AdapterError, match="already carries"):
        LoraAdapter.insert(tiny_model(unet), CONFIG, seed=0)


@pytest.mark.parametrize("merged", [False, True])
def test_off_is_the_teacher_bit_for_bit(merged):
    unet = tiny_unet()
    teacher = output(unet)
    lora = filled(unet)
    if merged:
        lora.merge()
    erased = output(unet)
    with lora.off():
        assert torch.equal(output(unet), teacher)
        with lora.off():
            pass
        assert torch.equal(output(unet), teacher), "an inner off() switched the outer one on"
    assert torch.equal(output(unet), erased)
    with pytest.raises(RuntimeError, match="stop"), lora.off():
        raise RuntimeError("stop")
    assert torch.equal(output(unet), erased)


def test_off_between_forward_and_backward_keeps_the_gradients():
    unet = tiny_unet()
    lora = filled(unet)
    args = (torch.randn(2, 4, 8, 8), torch.tensor([3, 4]))
    emb = torch.randn(2, 5, 32)

    def gradients(with_teacher):
        for parameter in lora.parameters():
            parameter.grad = None
        loss = unet(*args, encoder_hidden_states=emb).sample.square().sum()
        if with_teacher:
            with lora.off(), torch.no_grad():
                unet(*args, encoder_hidden_states=emb)
        loss.backward()
        return [p.grad.clone() for p in lora.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(gradients(False), gradients(True), strict=True))


def test_merge_acts_like_the_adapter_and_unmerge_restores_the_bytes():
    unet = tiny_unet()
    lora = filled(unet)
    before, erased = snapshot(unet), output(unet)
    lora.merge()
    assert torch.allclose(output(unet), erased, atol=1e-5)
    assert not same(snapshot(unet), before)
    with pytest.raises(AdapterError, match="merged already"):
        lora.merge()
    lora.unmerge()
    assert same(snapshot(unet), before)
    assert torch.equal(output(unet), erased)


def test_a_merge_that_is_not_finite_is_refused_and_undone():
    unet = tiny_unet()
    lora = filled(unet)
    with torch.no_grad():
        lora.parameters()[-1].fill_(float("nan"))  # the last layer: the others were merged before
    before = snapshot(unet)
    with pytest.raises(AdapterError, match="not finite"):
        lora.merge()
    after = snapshot(unet)
    assert all(torch.equal(after[k], before[k]) for k in before if not before[k].isnan().any())


def test_remove_leaves_the_unet_as_it_was():
    unet = tiny_unet()
    unet.conv_in.requires_grad_(False)
    before, wanted = snapshot(unet), {n: p.requires_grad for n, p in unet.named_parameters()}
    lora = filled(unet)
    lora.merge()
    lora.remove()
    assert same(snapshot(unet), before)
    assert {n: p.requires_grad for n, p in unet.named_parameters()} == wanted
    assert not any("lora" in name for name, _ in unet.named_modules())


def test_a_file_is_the_same_bytes_for_the_same_content_and_carries_its_provenance(tmp_path):
    lora = filled(tiny_unet())
    path = tmp_path / "adapter.safetensors"
    first = lora.save(path, PROVENANCE)
    body = path.read_bytes()
    for _ in range(5):
        assert lora.save(path, dict(reversed(PROVENANCE.items()))) == first
        assert path.read_bytes() == body
    assert lora.save(path, {**PROVENANCE, "seed": "1"}) != first
    read = read_provenance(path)
    assert {k: read[k] for k in PROVENANCE} == PROVENANCE
    assert (read["rank"], read["alpha"]) == ("2", "3.0")
    assert [p.name for p in tmp_path.iterdir()] == ["adapter.safetensors"]
    assert same(dict(sorted(read_adapter(path)[1].items())), dict(sorted(lora.state_dict().items())))


def test_load_gives_the_same_model_back(tmp_path):
    unet = tiny_unet()
    lora = filled(unet)
    lora.save(tmp_path / "a.safetensors", PROVENANCE)
    fresh = tiny_unet()
    loaded = LoraAdapter.load(tiny_model(fresh), tmp_path / "a.safetensors")
    assert torch.equal(output(fresh), output(unet))
    assert loaded.config == lora.config and loaded.config.targets == tiny_model(unet).layer_ends(
        CONFIG.targets
    )


def test_plain_diffusers_loads_the_file_at_the_right_scale(tmp_path):
    unet = tiny_unet()
    lora = filled(unet)
    lora.save(tmp_path / "a.safetensors", PROVENANCE)
    fresh = tiny_unet()
    fresh.load_lora_adapter(str(tmp_path), weight_name="a.safetensors", prefix="unet")
    assert torch.equal(output(fresh), output(unet))


def refuse(tmp_path, body_or_state, match, metadata=None, name="a.safetensors", sha256="b" * 64):
    path = tmp_path / name
    if isinstance(body_or_state, bytes):
        path.write_bytes(body_or_state)
    elif body_or_state is not None:
        save_file(body_or_state, path, metadata=metadata)
    unet = tiny_unet()
    before = snapshot(unet)
    with pytest.raises(AdapterError, match=match) as error:
        LoraAdapter.load(tiny_model(unet, sha256), path)
    assert error.value.action
    assert same(snapshot(unet), before)


def test_bad_files_are_refused_and_leave_the_unet_alone(tmp_path):
    lora = filled(tiny_unet())
    good = tmp_path / "good.safetensors"
    lora.save(good, PROVENANCE)
    body, state = good.read_bytes(), lora.state_dict()
    with safe_open(str(good), "pt") as file:
        head = file.metadata()
    refuse(tmp_path, body, "trained for the base bbbbbbbbbbbb", sha256="c" * 64)
    refuse(tmp_path, body[:-10], "cannot be read")
    refuse(tmp_path, b"", "cannot be read")
    refuse(tmp_path, None, "cannot be read", name="missing.safetensors")
    refuse(tmp_path, body, "refused", name="a.bin")
    refuse(tmp_path, state, "no provenance", {"format": "pt"})
    refuse(tmp_path, dict(list(state.items())[:-1]), "do not fit", head)
    refuse(tmp_path, state, "has shape", {**head, "fade.rank": "3"})
    refuse(tmp_path, state, "header is damaged", {**head, "fade.rank": "many"})
    refuse(tmp_path, {k: torch.full_like(v, float("nan")) for k, v in state.items()}, "not finite", head)
    refuse(tmp_path, {k: torch.zeros_like(v) for k, v in state.items()}, "does not change", head)


def test_a_weight_that_is_not_finite_is_not_saved(tmp_path):
    lora = filled(tiny_unet())
    with torch.no_grad():
        lora.parameters()[3].fill_(float("inf"))
    with pytest.raises(AdapterError, match="not finite"):
        lora.save(Path(tmp_path) / "a.safetensors", PROVENANCE)
    assert not list(tmp_path.iterdir())


def test_a_change_that_the_rank_holds_is_written_exactly_and_one_that_it_does_not_is_told():
    unet = tiny_unet()
    lora = LoraAdapter.insert(
        tiny_model(unet), MeshConfig(rank=3, alpha=6.0, targets=("attn2.to_k", "attn2.to_v")), seed=0
    )
    generator = torch.Generator().manual_seed(2)
    changes = {
        name: torch.randn(weight.shape[0], 3, generator=generator)
        @ torch.randn(3, weight.shape[1], generator=generator)
        for name, weight in lora.base_weights().items()
    }
    before = {name: weight.clone() for name, weight in lora.base_weights().items()}
    assert len(changes) >= 4 and lora.write(changes) < 1e-6
    lora.merge()
    merged = lora.base_weights()
    assert all(torch.allclose(merged[name], before[name] + changes[name], atol=1e-5) for name in changes)
    lora.unmerge()
    assert all(torch.equal(lora.base_weights()[name], before[name]) for name in changes)
    full = {
        name: torch.randn(weight.shape, generator=generator) for name, weight in lora.base_weights().items()
    }
    assert lora.write(full) > 0.1


def test_a_fixed_down_projection_is_set_in_every_layer_and_trained_no_more():
    unet = tiny_unet()
    lora = LoraAdapter.insert(
        tiny_model(unet), MeshConfig(rank=2, alpha=2.0, targets=("attn2.to_k", "attn2.to_v")), seed=0
    )
    rows = torch.randn(2, unet.config.cross_attention_dim, generator=torch.Generator().manual_seed(1))
    lora.fix_down(rows)
    downs = {name: value for name, value in lora.named_parameters().items() if ".lora_A." in name}
    assert downs and all(torch.equal(value, rows) and not value.requires_grad for value in downs.values())
    assert lora.parameters() == [
        value for name, value in lora.named_parameters().items() if ".lora_B." in name
    ]


def test_a_fixed_down_projection_needs_layers_that_read_the_text():
    lora = LoraAdapter.insert(tiny_model(unet := tiny_unet()), MeshConfig(rank=1), seed=0)
    with pytest.raises(AdapterError, match=r"proj_in.*set mesh.targets to \[text\]"):
        lora.fix_down(torch.zeros(1, unet.config.cross_attention_dim + 1))
