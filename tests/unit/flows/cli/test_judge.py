"""What the commands about judges print."""

from __future__ import annotations

from typing import Any

import pytest

from flows.cli.judge import _show_imported, _show_trained


def test_an_imported_judge_is_shown_with_what_was_recognised(capsys: pytest.CaptureFixture[str]) -> None:
    table = [{"concept": name} for name in ("tench", "goldfish", "great white shark", "tiger shark")]
    sides: dict[str, Any] = {"resize": 232, "crop": 224, "interpolation": "bilinear", "classes": 4}
    _show_imported({"out": "judges/x[1]", "layout": "timm's resnet50", "table": table, **sides})
    out, err = capsys.readouterr()
    assert "judges/x[1]: timm's resnet50, 4 classes (tench, goldfish, great white shark, ...)" in out
    assert "shorter side 232, middle 224 pixels" in out and "--set data.judge=judges/x[1]" in err


def test_a_trained_judge_is_shown_with_its_worst_concepts_and_look_alikes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = [{"concept": f"thing {i}", "n": 9, "top1": 100.0 - i} for i in range(30)]
    result = {
        "top1": 85.25,
        "n": 270,
        "per_class": [*known, {"concept": "none", "n": 0, "top1": None}],
        "confused": [{"concepts": ["pug", "boxer"], "share": 12.5, "mistakes": 9, "n": 72}],
        "calibration_error": 3.21,
        "seed": 4,
        "out": "judges/dogs",
    }
    _show_trained(result)
    out = capsys.readouterr().out
    assert "top-1 85.2 %, n = 270" in out and "pug / boxer" in out and "12.5 %" in out
    assert "thing 29" in out and "thing 20" in out and "thing 19" not in out and "none" not in out
    assert "calibration error 3.2 %, seed 4" in out and "judges/dogs" in out
