"""The outputs say what hand-made cells say: means, frontier, marks, gaps; and the page is one file that shows
the same."""

from __future__ import annotations

import hashlib
import json
import re
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fade.benchmark import tables
from fade.benchmark.metrics import derived, share, value_of
from fade.benchmark.plan import Cell, Condition, Plan
from fade.benchmark.record import read_picture
from fade.benchmark.summary import Origin, summarise
from fade.config import BenchConfig
from fade.evaluation import metrics
from fade.evaluation.metrics import Metric, register_metric
from fade.reporting.benchmark import figure, grids_of, render_benchmark, trade_offs
from fade.reporting.pictures import cell_grid
from tests.unit.fade.benchmark.cells import ESD, FADE, numbers, record

TARGETS = ("crying cat", "green heart", "panda", "tulip", "lemon")
BAD = Condition("esd", "u")
BENCH = BenchConfig(resamples=200)
ORIGIN = Origin("fade bench", "abc", "d41d.dir")


def plan(*conditions: Condition, seeds: tuple[int, ...] = (0, 1)) -> Plan:
    return Plan(conditions, TARGETS, seeds)


def found(wanted: Plan) -> dict[Cell, dict[str, Any]]:
    """FADE erases 98 and keeps all; esd/x erases 99 and keeps 50; esd/u is worse in both. Seeds move the
    erasing by one."""
    say = {FADE: (98.0, 100.0, 100.0), ESD: (99.0, 50.0, 50.0), BAD: (40.0, 40.0, 40.0)}
    return {
        cell: record(cell, say[cell.condition][0] - cell.seed, *say[cell.condition][1:])
        for cell in wanted.cells()
    }


@pytest.fixture
def summary() -> dict[str, Any]:
    whole = plan(FADE, ESD, BAD)
    tuned = {"esd/x": {"overrides": ["train.lr=1e-3"], "score": 70.0, "trials": [
        {"overrides": ["train.lr=1e-3"], "score": 70.0, "erased": 99.0, "retained": 60.0, "targets": {}},
        {"overrides": ["train.lr=2e-3"], "score": 60.0, "erased": 99.5, "retained": 40.0, "targets": {}},
        {"overrides": ["train.lr=9e-1"], "score": 0.0, "erased": None, "retained": None, "targets": {}},
    ]}}  # fmt: skip
    return summarise(whole, found(whole), BENCH, tuned, ORIGIN, {})


def test_what_follows_from_the_numbers_by_hand() -> None:
    got = derived({"numbers": {**numbers(90, 40, 60, 45, base=50)}})
    assert got["kept"] == {"A_adj": 80.0, "A_heldout": 120.0, "A_rest": 90.0}
    assert got["retained"] == pytest.approx((80 + 100 + 90) / 3) and got["ssim"]["rest"] == pytest.approx(0.6)
    assert got["numbers"]["metrics"]["ERB_heldout"] == pytest.approx(2 * 90 * 60 / 150)
    assert share(50.0, 0.0) is None and share(None, 50.0) is None and share(0.0, 50.0) == 0.0


@pytest.mark.parametrize("node", [{}, {"a": None}, {"a": {"b": "x"}}, {"a": {"b": True}}, {"a": 3}])
def test_a_number_that_is_not_there_has_no_value(node: dict[str, Any]) -> None:
    assert value_of(node, "a.b") is None


def test_the_means_are_those_of_the_cells(summary: dict[str, Any]) -> None:
    er = summary["arms"]["esd/x"]["spread"]["A_er"]
    assert (
        er["mean"] == pytest.approx(98.5)
        and er["n"] == 10
        and er["sd_targets"] == 0
        and er["sd_seeds"] == pytest.approx(0.7071, abs=1e-3)
    )
    assert summary["arms"]["esd/x"]["spread"]["kept_adj"]["mean"] == 50 and {
        **summary["cells"],
        "keys": [],
    } == {"done": 30, "of": 30, "missing": [], "keys": []}
    assert len(set(summary["cells"]["keys"])) == 30 and "esd/x, panda, seed 0" in summary["cells"]["keys"]
    assert summary["frontier"]["efficient"] == ["fade/paper", "esd/x"]
    assert (
        summary["against_reference"]["kept_adj"]["esd/x"]["difference"] == 50
        and "fade/paper" not in summary["against_reference"]["A_er"]
    )
    json.dumps(summary, allow_nan=False)


def test_a_number_that_no_cell_has_is_left_out_and_one_that_some_have_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "_METRICS", dict(metrics._METRICS))
    register_metric(
        Metric(
            "revived", "revived", "attacks.revived", "robustness", "lower", "%", "by the attack", main=True
        )
    )
    register_metric(Metric("never", "never", "no.where", "robustness", "lower", "", ""))
    whole = plan(FADE, ESD)
    cells = {
        c: r | ({"attacks": {"revived": 12.5}} if c.condition == ESD else {}) for c, r in found(whole).items()
    }
    got = summarise(whole, cells, BENCH, {}, ORIGIN, {})
    assert "revived" in [m["name"] for m in got["metrics"]] and "never" not in [
        m["name"] for m in got["metrics"]
    ]
    assert "ssim_adj" not in [m["name"] for m in got["metrics"]], "no hand-made cell has it"
    main = tables.main_table(got)
    column = list(main.head).index("revived, %")
    assert [row[column] for row in main.rows] == ["-", "12.5 ± 0.0"]
    assert "### revived, %" in tables.markdown(got, "f.svg") and "revived, %" in render_benchmark(got, [])


def test_both_balances_are_in_the_main_table_of_cells_that_had_one(summary: dict[str, Any]) -> None:
    head = tables.main_table(summary).head
    assert {"ERB, %", "ERB, held out, %"} <= set(head) and "as real, %" not in head
    spread = summary["arms"]["fade/paper"]["spread"]
    assert spread["ERB_heldout"]["n"] == spread["ERB"]["n"]


def test_missing_cells_are_named_with_why() -> None:
    whole = plan(FADE, ESD)
    cells = found(whole)
    gone, broken = Cell(ESD, "panda", 1), Cell(FADE, "tulip", 0)
    del cells[gone], cells[broken]
    got = summarise(whole, cells, BENCH, {}, ORIGIN, {broken: "train: diverged"})
    said = {(m["arm"], m["target"], m["seed"]): m["why"] for m in got["cells"]["missing"]}
    assert said == {("esd/x", "panda", 1): "not measured yet", ("fade/paper", "tulip", 0): "train: diverged"}
    assert got["arms"]["esd/x"]["spread"]["A_er"]["n"] == 9 and "diverged" in tables.markdown(got, "f.svg")


def test_seconds_are_those_of_one_device_and_everything_else_of_all() -> None:
    whole = plan(FADE, ESD)
    cells = found(whole)
    elsewhere = Cell(FADE, "tulip", 1)
    cells[elsewhere] = cells[elsewhere] | {
        "made": cells[elsewhere]["made"] | {"device": "a GPU"},
        "cost": {"train": {"seconds": 99.0}},
    }
    got = summarise(whole, cells, BENCH, {}, ORIGIN, {})
    spread = got["arms"]["fade/paper"]["spread"]
    assert (got["timed_on"], got["devices"]) == ("x86_64", {"x86_64": len(whole) - 1, "a GPU": 1})
    assert spread["train_seconds"]["n"] == spread["A_er"]["n"] - 1 and spread["train_seconds"]["mean"] == 2.0
    assert f"of the {len(whole) - 1} cells made on x86_64 alone" in tables.markdown(
        got, "f.svg"
    ) and "a GPU (1 cells)" in render_benchmark(got, [])


def test_nothing_measured_is_said_and_not_a_crash() -> None:
    got = summarise(plan(FADE), {}, BENCH, {}, ORIGIN, {})
    assert got["arms"] == {} and len(got["cells"]["missing"]) == 10
    assert "Missing cells (10)" in tables.markdown(got, "f.svg") and "0 of 10 cells" in render_benchmark(
        got, []
    )


def test_the_main_table_marks_the_frontier_and_what_differs(summary: dict[str, Any]) -> None:
    table = tables.main_table(summary)
    rows = {row[0]: row for row in table.rows}
    assert set(rows) == {"**fade/paper**", "**esd/x**", "esd/u"}
    assert (
        rows["**esd/x**"][2:4] == ["98.5 ± 0.5 *", "50.0 ± 0.0 *"]
        and rows["**fade/paper**"][2] == "97.5 ± 0.5"
        and rows["esd/u"][-1] == "2.0"
    )


def test_the_main_table_says_what_each_method_was_given(summary: dict[str, Any]) -> None:
    table = tables.main_table(summary)
    given = {row[0].strip("*"): row[list(table.head).index("given")] for row in table.rows}
    assert given == {"fade/paper": "the neighbours", "esd/x": "nothing", "esd/u": "nothing"}
    assert "Given neighbours by which they are judged: fade/paper." in table.note
    control = Condition("esd", "x", neighbours=True)
    whole = plan(ESD, control)
    cells = {cell: record(cell, 90.0, 90.0, 90.0) for cell in whole.cells()}
    note = tables.main_table(summarise(whole, cells, BENCH, {}, ORIGIN, {})).note
    assert "judged: esd/x + neighbours." in note
    alone = {cell: one for cell, one in cells.items() if cell.condition == ESD}
    note = tables.main_table(summarise(plan(ESD), alone, BENCH, {}, ORIGIN, {})).note
    assert "No method was given a neighbour" in note


def test_what_no_seed_decides_counts_once_and_is_paired_with_every_seed() -> None:
    uce = Condition("uce", "keys-values")
    whole = plan(FADE, uce)
    values = {FADE: (98.0, 100.0, 100.0), uce: (90.0, 60.0, 60.0)}
    cells = {
        cell: record(cell, values[cell.condition][0] - cell.seed, *values[cell.condition][1:])
        for cell in whole.cells()
    }
    got = summarise(whole, cells, BENCH, {}, ORIGIN, {})
    spread = got["arms"]["uce/keys-values"]["spread"]["A_er"]
    assert (spread["n"], spread["sd_seeds"], got["cells"]["of"]) == (5, None, 15)
    # FADE's mean over both seeds, 97.5, not its first seed's 98
    assert got["against_reference"]["A_er"]["uce/keys-values"]["difference"] == pytest.approx(7.5)


def test_the_settings_name_what_lies_at_the_edge(summary: dict[str, Any]) -> None:
    table = tables.settings_table(summary)
    row = next(row for row in table.rows if row[0] == "esd/x")
    assert row[-1] == "train.lr" and "not settled: esd/x (train.lr=0.001)." in table.note


def test_significance_says_who_is_better_whatever_the_direction(summary: dict[str, Any]) -> None:
    table = tables.significance(summary)
    row = dict(zip(table.head, next(r for r in table.rows if r[0] == "esd/x"), strict=True))
    assert (
        row["erased"].startswith("worse")
        and row["neighbours kept"].startswith("better")
        and row["rest kept"].startswith("same")
    )
    lower = {"better": "lower"}
    assert (
        tables._verdict({"difference": 3.0, "p_holm": 0.01}, lower) == "worse, 0.010"
        and tables._verdict({"difference": -3.0, "p_holm": 0.01}, lower) == "better, 0.010"
    )


def test_markdown_tables_are_square(summary: dict[str, Any]) -> None:
    text = tables.markdown(summary, "frontier.svg")
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(blocks) >= 4 + len(summary["metrics"])
    for block in blocks:
        assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1, block
    assert (
        "`fade bench`, commit abc, data md5 d41d.dir" in text
        and "](frontier.svg)" in text
        and "nan" not in text
    )


def test_the_page_is_one_file_with_every_table_and_the_figures(
    summary: dict[str, Any], tmp_path: Path
) -> None:
    page = render_benchmark(
        summary,
        [
            {
                "target": "a <b>",
                "rows": ["x & y"],
                "figures": [{"name": "original", "uri": "data:image/png;base64,AA=="}],
            }
        ],
    )
    for words in (
        "fade/paper",
        "held-out kept, %",
        "p, Holm",
        "d41d.dir",
        "fade bench",
        "a &lt;b&gt;",
        "x &amp; y",
        "train.lr=1e-3",
    ):
        assert words in page, words
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "<script" not in page
    assert page.count("<svg") == 2 == 1 + len(trade_offs(summary))
    assert render_benchmark(summary, []) == render_benchmark(summary, [])


def test_the_frontier_puts_its_points_where_the_numbers_are(summary: dict[str, Any]) -> None:
    root = ET.fromstring(figure(summary))
    space = "{http://www.w3.org/2000/svg}"
    dots = [c for c in root.iter(f"{space}circle") if c.find(f"{space}title") is not None]
    at = {
        str(c.findtext(f"{space}title")).split(":")[0]: (
            float(c.attrib["cx"]),
            float(c.attrib["cy"]),
            c.attrib["class"],
        )
        for c in dots
    }
    assert (
        at["esd/x"][0] > at["fade/paper"][0] > at["esd/u"][0]
        and at["fade/paper"][1] < at["esd/x"][1] < at["esd/u"][1]
    )
    assert [at[name][2] for name in ("fade/paper", "esd/x", "esd/u")] == ["target", "adjacent", "rest"]
    (line,) = root.iter(f"{space}polyline")
    assert line.attrib["points"].split() == [
        f"{at[n][0]:.1f},{at[n][1]:.1f}" for n in ("fade/paper", "esd/x")
    ]


def test_the_trade_off_marks_what_was_chosen_and_leaves_out_what_failed(summary: dict[str, Any]) -> None:
    (svg,) = trade_offs(summary)
    assert svg.count('<circle class="target"') == 2 and "train.lr=2e-3" in svg and "train.lr=9e-1" not in svg


def test_pictures_are_shown_only_as_they_were_kept(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    body = cell_grid([pictures, pictures[:2]])
    assert body == cell_grid([pictures, pictures[:2]]) and len(body) < 40_000
    kept, folder = {}, tmp_path / "panda"
    folder.mkdir()
    for key in ("original", "erased"):
        (folder / f"{key}.png").write_bytes(body)
        kept[key] = {"file": f"{key}.png", "sha256": hashlib.sha256(body).hexdigest()}
    cells = [
        record(Cell(condition, "panda", 0), 1, 1, 1) | {"grid": {"rows": ["panda", "koala"], **kept}}
        for condition in (FADE, ESD, ESD)
    ]
    read = partial(read_picture, tmp_path)
    (grid,) = grids_of(read, cells)
    assert [f["name"] for f in grid["figures"]] == ["original", "fade/paper", "esd/x"] and grid["rows"] == [
        "panda",
        "koala",
    ]
    (folder / "erased.png").write_bytes(body + b"x")
    (folder / "original.png").unlink()
    assert grids_of(read, cells)[0]["figures"] == []
    assert grids_of(read, [record(Cell(FADE, "panda", 1), 1, 1, 1)]) == []
