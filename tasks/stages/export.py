"""Write an erased model for other tools. A registered version is verified before it leaves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fade.errors import AdapterError, UnknownNameError, UsageError
from fade.run.context import RunContext
from fade.run.worlds import load_adapter
from fade.utils.files import storage_error, write_new
from fade.utils.hashing import sha256_of
from fade.utils.reading import ADAPTER, read_bytes

STAGE = "export"
DIFFUSERS, KOHYA, MERGED = "diffusers", "kohya", "merged"
FORMATS = (DIFFUSERS, KOHYA, MERGED)
ELSEWHERE = "name another with --out; nothing was written."
FACTS = ("concept", "method", "variant", "base_sha256", "data_md5")
"""Of an adapter's provenance, what a kohya file's header names."""


def export(run: RunContext, model: str, layout: str, out: Path) -> dict[str, Any]:
    """Write ``model`` (see `adapter_of`) to ``out``: ``diffusers`` (our file's own bytes), ``kohya`` (one
    file) or ``merged`` (a directory of diffusers). Returns ``out``, the format and the adapter's sha256.

    Raises UnknownNameError (the format), UsageError for an ``out`` that is there already, AdapterError (see
    `fade.adapters.export`), StorageError, and what verifying a version raises."""
    if layout not in FORMATS:
        raise UnknownNameError("format", layout, FORMATS, stage=STAGE)
    if os.path.lexists(out):
        raise UsageError(f"{out} is there already.", stage=STAGE, action=ELSEWHERE)
    adapter = adapter_of(run, model)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _write(run, adapter, layout, out)
    except OSError as error:
        raise storage_error(error, out, STAGE, ELSEWHERE) from error
    return {"model": model, "format": layout, "out": str(out), "adapter_sha256": sha256_of(adapter)}


def adapter_of(run: RunContext, model: str) -> Path:
    """The adapter of a path, or of a registered version: its entry, record, bytes, header, signature and
    decisions are compared, and a revoked one is refused. Raises what `tasks.registry.verify.verify` does."""
    from tasks.registry.trust import Trust
    from tasks.registry.verify import verify_version
    from tasks.registry.versions import load_version, open_version

    trust = Trust.of(run.params.signing, run.root)
    if model == "base":
        raise AdapterError("the original model has no adapter.", stage=STAGE, action="name an erased model.")
    if model.endswith(".safetensors") or Path(model).is_dir():
        return load_version(model, run.runs, trust)
    return verify_version(*open_version(model, run.runs, trust), run.runs)[1]


def _write(run: RunContext, adapter: Path, layout: str, out: Path) -> None:
    from fade.adapters.adapter_file import read_provenance
    from fade.adapters.export import kohya_file, write_merged

    header = read_provenance(adapter)
    if layout == DIFFUSERS:
        write_new(out, read_bytes(adapter, ADAPTER), stage=STAGE)
        return
    lora = load_adapter(run, adapter)
    try:
        if layout == KOHYA:
            facts = {f"fade_{key}": header[key] for key in FACTS if key in header}
            write_new(out, kohya_file(lora, {**facts, "fade_sha256": sha256_of(adapter)}), stage=STAGE)
        else:
            write_merged(lora, out)
    finally:
        lora.remove()
