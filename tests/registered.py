"""What a finished run leaves behind, for tests that register it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fade.config import Params
from fade.data.manifest import COLUMNS
from fade.provenance.lineage import Lineage
from tests.unit.fade.reporting import samples


def adapter_bytes(seed: int = 0, header: Mapping[str, str] | None = None) -> bytes:
    import torch
    from safetensors.torch import save

    generator = torch.Generator().manual_seed(seed)
    key = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    down, up = torch.randn(4, 8, generator=generator), torch.randn(8, 4, generator=generator)
    facts = {
        "concept": "panda",
        "base_sha256": "b" * 64,
        "rank": "4",
        "alpha": "4.0",
        "targets": '["attn1.to_q"]',
    }
    return save(
        {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up},
        metadata={f"fade.{key}": value for key, value in {**facts, **(header or {})}.items()},
    )


def finished_run(
    tmp_path: Path, seed: int = 0, private_key: str = "", **register_changes: Any
) -> tuple[dict[str, Any], Params, dict[str, Any], Path]:
    """What `fade run` hands over: an evaluation, params, a lineage, and a folder with the adapter and its
    evidence."""
    run_dir = tmp_path / "runs" / "erase" / "panda" / f"key{seed}"
    (run_dir / "pictures").mkdir(parents=True)
    (run_dir / "report.html").write_text("<!doctype html>")
    (run_dir / "pictures" / "before-after.png").write_bytes(b"\x89PNG")
    (run_dir / "history.json").write_text(json.dumps(samples.history(6)))
    images = tmp_path / "images"
    images.mkdir(exist_ok=True)
    row = ["a.png", "panda", "bears", "noto", "noto", "1", "MIT", "0" * 64, "64", "64", "train"]
    (images / "manifest.csv").write_text(",".join(COLUMNS) + "\n" + ",".join(row) + "\n")
    (tmp_path / "base").mkdir(exist_ok=True)
    sections = {
        "data": {"images": str(images), "base": str(tmp_path / "base")},
        "register": {"experiment": "erase", **register_changes},
        "train": {"steps": 150},
        "signing": {"private_key": private_key},
    }
    params = Params.model_validate(sections)
    lineage = samples.lineage()
    lineage["params"] = {"values": {}, "sha256": params.sha256(), "overrides": []}
    header = {
        "base_sha256": lineage["base"]["sha256"],
        "data_md5": lineage["data"]["md5"],
        "params_sha256": params.sha256(),
        "seed": str(lineage["seeds"]["train"]),
        "commit": lineage["code"]["commit"],
    }
    data = adapter_bytes(seed, header)
    (run_dir / "adapter.safetensors").write_bytes(data)
    lineage["outputs"] = {"adapter_sha256": hashlib.sha256(data).hexdigest()}
    Lineage(lineage).save(run_dir / "lineage.json")
    return samples.result(), params, lineage, run_dir
