"""Adapters of every method variant: a few steps on the miniature base, with latents, draws and provenance
that never change."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load

from fade.erasers.base import get_eraser, known_erasers
from fade.jobs.train import TrainJob
from fade.models.loading import load_model
from fade.training.loop import train
from fade.utils.hashing import sha256_of
from tests.support import DEEP, make_latents, make_tiny_base

FILE = "adapters.json"
THREADS = 1
TOLERANCE = 1e-4
"""On a machine of another kind: of the norm of all down (or all up) projections together. Measured between
plain instructions, AVX2 and AVX-512 of one machine: at most 3e-5, for most variants 1e-6."""
TOLERANCES = {"fade/release": 0.3, "spm/latent-anchoring": 5e-4, "fade/official-sampled": 1e-3}
"""Of adapters that depend more on a machine's rounding (measured: 0.1, 1e-4, 3e-4; the last one's bytes under
AVX2 are the golden file's). The release's adjacency term is an unsquared distance between two equal
predictions in the first step: the direction of its gradient is rounding, which `EXTRA` gives less weight."""
PROJECTIONS = 4
NEIGHBOURS = ("koala", "bear", "tiger", "lion", "cat")
EXTRA = {"fade/release+little adjacency": ("fade/release", {"adjacency_weight": 1e-4})}
PROVENANCE = {
    "base_sha256": "0" * 64,
    "commit": "0" * 40,
    "concept": "panda",
    "params_sha256": "1" * 64,
    "seed": "0",
}


def variants() -> dict[str, dict[str, Any]]:
    """Every registered variant and, where a method takes them, its run with anchors:
    ``NAME/VARIANT[+anchors]`` and its settings.

    The settings are sections of a training job as the method sets them itself. The golden file keeps them.
    """
    out: dict[str, dict[str, Any]] = {}
    for name, several in known_erasers().items():
        for method in (get_eraser(name, variant) for variant in several):
            variant = (*method.aliases, method.variant)[0]  # the golden file has the former name
            words = {"words": 40} if method.requires_heldout else {}  # a tenth of nullspace's own: seconds
            sections: dict[str, dict[str, Any]] = {
                "method": {"name": name, "variant": variant, **words},
                "mesh": {},
                "train": {},
            }
            for setting in method.settings:
                key, _, value = setting.partition("=")
                section, _, field = key.partition(".")
                sections[section][field] = yaml.safe_load(value)
            out[f"{name}/{variant}"] = sections
            if method.accepts_anchors:
                out[f"{name}/{variant}+anchors"] = {
                    **sections,
                    "method": {**sections["method"], "anchors": "neighbourhood"},
                }
    for name, (of, changed) in EXTRA.items():
        out[name] = {**out[of], "method": {**out[of]["method"], **changed}}
    return out


@contextmanager
def fixed_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def trainer(folder: Path) -> Callable[[str, dict[str, dict[str, Any]]], bytes]:
    """A function of a variant's name and settings that trains it and returns the adapter's file. Everything
    lies in ``folder``."""
    with fixed_threads():
        base = load_model(str(make_tiny_base(folder / "base", **DEEP)), device="cpu")
        latents = make_latents(folder / "latents.safetensors")

    def made(name: str, sections: dict[str, dict[str, Any]]) -> bytes:
        settings = {
            "steps": 4,
            "warmup": 1,
            "checkpoint_every": 2,
            "precision": "fp32",
            "batch_target": 2,
            "batch_neighbours": 5,
        }
        job = TrainJob.model_validate(
            {
                "base": base.path,
                "base_sha256": base.sha256,
                "subjects": [{"target": "panda", "neighbours": NEIGHBOURS}],
                "heldout": ["wolf"],
                "prompt": "a {concept}",
                "latents": latents,
                "latents_sha256": sha256_of(latents),
                "mesh": {"rank": 2, "alpha": 4.0, **sections["mesh"]},
                "method": sections["method"],
                "train": {**settings, **sections["train"]},
                "provenance": PROVENANCE,
                "out": folder / name.replace("/", "-").replace(" ", "-"),
            }
        )
        with fixed_threads():
            return train(job, base).read_bytes()

    return made


def with_fixed_version(body: bytes) -> bytes:
    """The file with one version of the product in its header, and without the model family that files of
    before there were several do not name: a release changes that and nothing else.

    Everything else stays byte for byte; a header that is not laid out as `json.dumps` without spaces does it
    fails here."""
    (length,) = struct.unpack("<Q", body[:8])
    header = json.loads(body[8 : 8 + length])
    assert _header(header) == body[8 : 8 + length], "the header's layout differs"
    header["__metadata__"]["fade.fade_version"] = "0"
    header["__metadata__"].pop("fade.family", None)
    text = _header(header)
    return struct.pack("<Q", len(text)) + text + body[8 + length :]


def _header(header: dict[str, Any]) -> bytes:
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)


def metadata(body: bytes) -> dict[str, str]:
    (length,) = struct.unpack("<Q", body[:8])
    found: dict[str, str] = json.loads(body[8 : 8 + length])["__metadata__"]
    return found


def summary(body: bytes) -> dict[str, Any]:
    """Header, sha256, and of each tensor its shape and numbers: float64 norm, projections on fixed directions
    of length 1."""
    body = with_fixed_version(body)
    tensors = {}
    for name, tensor in sorted(load(body).items()):
        flat = tensor.double().flatten()
        generator = torch.Generator().manual_seed(len(flat))
        directions = torch.rand(PROJECTIONS, len(flat), generator=generator, dtype=torch.float64) - 0.5
        directions /= directions.norm(dim=1, keepdim=True)
        numbers = [float(f"{number:.8g}") for number in [float(flat.norm()), *(directions @ flat).tolist()]]
        tensors[name] = {"shape": list(tensor.shape), "numbers": numbers}
    return {"sha256": hashlib.sha256(body).hexdigest(), "metadata": metadata(body), "tensors": tensors}


def distances(expected: dict[str, Any], actual: dict[str, Any]) -> dict[str, float]:
    """Of each tensor the largest difference of its norm and projections, as a share of the norm of all
    tensors of its side."""
    total: dict[str, float] = {}
    for name, one in expected["tensors"].items():
        total[_side(name)] = math.hypot(total.get(_side(name), 0.0), one["numbers"][0])
    out = {}
    for name, one in expected["tensors"].items():
        pairs = zip(one["numbers"], actual["tensors"][name]["numbers"], strict=True)
        out[name] = max(abs(a - b) for a, b in pairs) / total[_side(name)]
    return out


def _side(name: str) -> str:
    return "down" if "lora_A" in name else "up"
