"""Add up adapters that were trained apart, and judge the sum as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fade.config import Params
from fade.data.vocabulary import TOGETHER
from fade.run.context import RunContext
from fade.run.worlds import require_base
from fade.utils.files import result_file, write_json


def compose(
    params: Params, models: Sequence[str], out: Path, runs: Path, root: Path = Path()
) -> dict[str, Any]:
    """Write the composed adapter to ``out`` and its evaluation beside it, as JSON. Returns the evaluation.

    ``models``: registered versions (``fade-panda/1``), adapter files or folders of runs. Raises AdapterError,
    and whatever mining and judging raise."""
    from fade.adapters.adapter_file import read_provenance
    from fade.adapters.compose import compose as add_up
    from tasks.registry.trust import Trust
    from tasks.registry.versions import load_version
    from tasks.stages.evaluate import evaluate_adapter
    from tasks.stages.mine import mine

    result_file(out, ".safetensors", "compose")
    result_file(out.with_suffix(".json"), ".json", "compose")
    trust = Trust.of(params.signing, root)
    paths = [load_version(model, runs, trust) for model in models]
    concepts = [name for path in paths for name in read_provenance(path)["concept"].split(TOGETHER)]
    run = RunContext(params, concepts, runs, root)
    for path in paths:
        require_base(run, path)
    sha256 = add_up(run.models.base, paths, out)
    numbers = {
        **evaluate_adapter(run, mine(run), out).numbers,
        "method": "composition",
        "models": list(models),
        "adapter_sha256": sha256,
    }
    write_json(out.with_suffix(".json"), numbers)
    return {**numbers, "adapter": str(out)}
