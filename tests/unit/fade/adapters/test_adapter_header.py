"""An adapter's header is checked against its own weights and the UNet before anything is allocated."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fade.adapters.adapter_file import read_adapter, read_provenance
from fade.adapters.compose import compose
from fade.adapters.lora import LoraAdapter
from fade.errors import AdapterError
from fade.models.safetensors_file import HEADER_LIMIT
from tests.support import tiny_model, tiny_unet
from tests.unit.fade.adapters.test_lora import CONFIG, filled, same, snapshot

FACTS = {"base_sha256": "b" * 64, "concept": "panda", "neighbours": '["koala"]'}
Parts = tuple[dict[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.safetensors"
    filled(tiny_unet()).save(path, FACTS)
    return path


def parts(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    facts, state = read_adapter(path)
    return {f"fade.{key}": value for key, value in facts.items()}, state


def without(key: str) -> Callable[[Parts], Parts]:
    return lambda both: ({k: v for k, v in both[0].items() if k != f"fade.{key}"}, both[1])


def with_(**facts: str) -> Callable[[Parts], Parts]:
    return lambda both: ({**both[0], **{f"fade.{k}": v for k, v in facts.items()}}, both[1])


def cast(dtype: torch.dtype) -> Callable[[Parts], Parts]:
    return lambda both: (both[0], {name: value.to(dtype) for name, value in both[1].items()})


def scaled(value: float) -> Callable[[Parts], Parts]:
    return lambda both: (both[0], {name: torch.full_like(one, value) for name, one in both[1].items()})


def renamed(name: str) -> Callable[[Parts], Parts]:
    return lambda both: (both[0], {**both[1], name: torch.ones(2, 2)})


HOSTILE: dict[str, tuple[Callable[[Any], Parts], str]] = {
    **{
        f"no {key}": (without(key), f"it has no {key}")
        for key in ("concept", "rank", "alpha", "base_sha256", "targets")
    },
    "rank 10^9": (with_(rank="1000000000"), "rank is"),
    "rank 2 * 10^7": (with_(rank="20000000"), "rank"),
    "rank 16,000": (with_(rank="16000"), "has shape"),
    "rank 0": (with_(rank="0"), "greater than or equal to 1"),
    "rank in words": (with_(rank="٣"), "rank is"),
    "alpha inf": (with_(alpha="inf"), "finite"),
    "alpha nan": (with_(alpha="nan"), "finite"),
    "alpha 1e300": (with_(alpha="1e300"), "less than or equal to 1000000"),
    "alpha 0": (with_(alpha="0"), "greater than 0"),
    "targets 100,000 deep": (with_(targets="[" * 100_000 + "]" * 100_000), "targets: it is nested"),
    "targets of numbers": (with_(targets="[1]"), "targets is no list"),
    "targets no list": (with_(targets='{"a": 1}'), "targets is no list"),
    "no targets": (with_(targets="[]"), "targets is no list"),
    "many targets": (with_(targets=json.dumps(["to_q"] * 5000)), "targets is no list"),
    "a target that is not there": (with_(targets='["to_x"]'), "names no layer"),
    "parts no JSON": (with_(parts="[{"), "parts: line 1"),
    "neighbours deep": (with_(neighbours="[" * 100_000), "neighbours: it is nested"),
    **{
        str(dtype): (cast(dtype), "has the type")
        for dtype in (torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.int64)
    },
    "an unknown weight": (renamed("unet.x.lora_C.weight"), "is no weight of an adapter"),
    "a weight of another part": (renamed("text_encoder.x.lora_A.weight"), "is no weight of an adapter"),
    "a layer too many": (renamed("unet.x.lora_A.weight"), "do not fit"),
    "weights that overflow": (scaled(1e38), "infinite"),
    "no weights": (lambda both: (both[0], {}), "names no weight"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_adapter_is_refused_in_time_by_load_and_by_compose(
    good: Path, tmp_path: Path, what: str
) -> None:
    change, message = HOSTILE[what]
    metadata, state = change(parts(good))
    path = tmp_path / "a.safetensors"
    save_file(state, path, metadata=metadata)
    unet = tiny_unet()
    before = snapshot(unet)
    start = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(AdapterError, match=message) as caught:
            LoraAdapter.load(tiny_model(unet), path)
        assert caught.value.action and len(str(caught.value)) < 900
        with pytest.raises(AdapterError):
            compose(tiny_model(unet), [path, good], tmp_path / "both.safetensors")
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 5.0
    assert same(snapshot(unet), before) and not (tmp_path / "both.safetensors").exists()


def test_a_head_that_states_a_large_rank_allocates_nothing(good: Path, tmp_path: Path) -> None:
    """Shapes of rank 16,000 without their bytes."""
    body = good.read_bytes()
    length = int.from_bytes(body[:8], "little")
    head = json.loads(body[8 : 8 + length])
    head["__metadata__"]["fade.rank"] = "16000"
    for name, entry in head.items():
        if name != "__metadata__":
            entry["shape"][0 if "lora_A" in name else 1] = 16000
    text = json.dumps(head).encode()
    (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + body[8 + length :])
    with pytest.raises(AdapterError, match=r"a\.safetensors cannot be read"):
        LoraAdapter.load(tiny_model(tiny_unet()), tmp_path / "a.safetensors")


HEADS = {
    "a length without end": b"\xff" * 8,
    "a length beyond the file": (1000).to_bytes(8, "little") + b"{}",
    "a length beyond the limit": (HEADER_LIMIT + 1).to_bytes(8, "little") + b"{}",
    "5,000 levels": (10_000).to_bytes(8, "little") + b"[" * 5000 + b"]" * 5000,
    "a list": (2).to_bytes(8, "little") + b"[]",
    "a name twice": (19).to_bytes(8, "little") + b'{"a": {}, "a": {} }',
    "metadata of numbers": (27).to_bytes(8, "little") + b'{"__metadata__": {"a": 1} }',
    "seven bytes": b"1234567",
}


@pytest.mark.parametrize("what", HEADS)
def test_a_head_that_is_none_is_refused(tmp_path: Path, what: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(HEADS[what])
    with pytest.raises(AdapterError, match=r"a\.safetensors cannot be read: "):
        read_provenance(tmp_path / "a.safetensors")


def test_a_sum_that_overflows_is_refused(good: Path, tmp_path: Path) -> None:
    metadata, state = parts(good)
    big = {name: value * (1e37 if "lora_B" in name else 1.0) for name, value in state.items()}
    save_file(big, tmp_path / "a.safetensors", metadata={**metadata, "fade.concept": "lemon"})
    with pytest.raises(AdapterError, match="infinite"):
        compose(tiny_model(tiny_unet()), [good, tmp_path / "a.safetensors"], tmp_path / "both.safetensors")
    assert not (tmp_path / "both.safetensors").exists()


def test_control_other_precisions_load(good: Path, tmp_path: Path) -> None:
    metadata, state = parts(good)
    for dtype in (torch.float16, torch.float64):
        path = tmp_path / "a.safetensors"
        save_file({name: value.to(dtype) for name, value in state.items()}, path, metadata=metadata)
        config = LoraAdapter.load(tiny_model(tiny_unet()), path).config
        assert (config.rank, config.alpha) == (CONFIG.rank, CONFIG.alpha)
