"""The lineage record of a run: closed only when its inputs are as they were."""

from __future__ import annotations

import pytest

from fade.errors import DataError
from fade.provenance.lineage import Lineage
from tasks.stages.lineage import require_unchanged


def record(**inputs: str) -> Lineage:
    return Lineage(
        {"inputs": {"before": inputs, "after": None, "unchanged": None}, "outputs": {"adapter_sha256": None}}
    )


def test_inputs_that_changed_under_the_run_are_no_evidence() -> None:
    before = {"base": "a", "images": "b"}
    same = require_unchanged(record(**before).finish(dict(before), "c" * 64))
    assert same.content["inputs"]["unchanged"] is True
    with pytest.raises(DataError, match="images changed while the run went on"):
        require_unchanged(record(**before).finish({"base": "a", "images": "x"}, "c" * 64))
