"""The page: self-contained, safe, and every number on it is a number that went in."""

from __future__ import annotations

import base64
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fade.evaluation.realism import Substitute
from fade.evaluation.second_opinion import Disputed
from fade.reporting.html import checks_of, render, seconds, write_pictures, write_report
from fade.reporting.report_data import Row
from fade.reporting.verdict import findings, headline, metric_rows, number
from tests.unit.fade.reporting import samples

ATTRIBUTES = {
    "src",
    "srcset",
    "href",
    "action",
    "data",
    "poster",
    "background",
    "xlink:href",
    "ping",
    "formaction",
}
VOID = {"meta", "img", "source", "link", "br", "input"}


class Page(HTMLParser):
    """What a browser would fetch or run, the visible text, the marked numbers, and whether the tags are
    balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.alts: list[str | None] = []
        self.numbers: dict[str, list[tuple[str, str]]] = {}
        self.text = ""
        self._open: list[str] = []
        self._data: dict[str, str] | None = None
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {k: v or "" for k, v in attrs}
        self.tags.append(tag)
        self.links += [v for k, v in given.items() if k in ATTRIBUTES]
        assert not [k for k in given if k.startswith("on")]
        if tag == "img":
            self.alts.append(given.get("alt"))
        if tag == "data":
            self._data = {**given, "text": ""}
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "data" and self._data is not None:
            self.numbers.setdefault(self._data["data-key"], []).append(
                (self._data["value"], self._data["text"])
            )
            self._data = None

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data
        if self._data is not None:
            self._data["text"] += data


@pytest.fixture(scope="module")
def html() -> str:
    return render(samples.report(registered={"model_name": "fade-panda", "model_version": "7"}))


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def expected() -> dict[str, float]:
    result = samples.result()
    out: dict[str, float] = {f"metrics.{k}": v for k, v in result["metrics"].items()}
    out |= {f"base.{k}": v for k, v in result["base_metrics"].items()}
    for prefix, intervals in (("metrics", result["intervals"]), ("base", result["base_intervals"])):
        for key, (low, high) in intervals.items():
            out |= {f"{prefix}.{key}.lo": low, f"{prefix}.{key}.hi": high}
    for entry in result["per_concept"]:
        out |= {f"concept.{entry['concept']}.{k}": entry[k] for k in ("base", "erased", "ssim")}
        if entry["concept"] in samples.NAMES[:4]:
            out |= {f"grid.{entry['concept']}.{k}": entry[k] for k in ("base", "erased")}
    out |= {f"n.{role}": result["n"][role] for role in ("target", "adjacent", "heldout", "rest")}
    out |= {
        f"cosine.{n}": samples.Neighborhood().similarities[n] for n in (*samples.NEIGHBOURS, *samples.HELDOUT)
    }
    out |= {"ssim": 0.913, "ssim.lo": 0.874, "ssim.hi": 0.946}
    return out | {f"seconds.{k}": v for k, v in samples.report().seconds.items()}


def test_nothing_is_fetched_and_nothing_runs(html: str, page: Page) -> None:
    assert page.links and all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not {"script", "iframe", "object", "embed", "link", "form", "base"} & set(page.tags)
    without_pictures = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", html)
    assert (
        "://" not in without_pictures and "url(" not in without_pictures and "@import" not in without_pictures
    )
    assert "default-src 'none'" in html
    for link in page.links:
        assert base64.b64decode(link.split(",")[1], validate=True).startswith(b"\x89PNG")


def test_every_number_that_went_in_is_shown_and_no_other(page: Page) -> None:
    wanted = expected()
    assert set(page.numbers) == set(wanted)
    for key, shown in page.numbers.items():
        for value, text in shown:
            assert float(value) == wanted[key], key
            if key.startswith("seconds"):
                assert text == seconds(wanted[key])
            elif key.startswith("n."):
                assert text == str(wanted[key])
            else:
                places = 3 if "cosine" in key or "ssim" in key else 1
                assert text == f"{wanted[key]:.{places}f}", key


def test_pictures_and_charts_have_words(html: str, page: Page) -> None:
    assert page.alts and all(alt for alt in page.alts)
    assert len(page.alts) == 4 + 2 * 4  # neighbourhood, two blocks a line
    charts = re.findall(r'<svg class="fade-chart"[^>]* role="img" aria-label="([^"]+)">', html)
    assert [chart.split()[0] for chart in charts] == ["Heat", "Bar", "Curves"]


def test_what_was_asked_and_how_to_make_it_again_is_told(page: Page) -> None:
    words = " ".join(page.text.split())
    for part in (
        "panda",
        "koala, bear",
        "hamster",
        "fade-panda, version 7",
        'fade run --target "panda"',
        "4" * 64,
        "e" * 32,
        "train.steps=6",
    ):
        assert part in words
    assert "Enough drawings" in words and "2 of 6 fail: bear, taxi" in words


def test_names_cannot_inject_markup() -> None:
    evil = "<script>alert(1)</script>"
    result = samples.result(confusion=[{"becomes": evil, "count": 1, "share": 4.2}])
    rows = [Row(evil, "target", samples.pictures(), samples.pictures())]
    text = render(
        samples.report(result=result, rows=rows, command=f"fade run --target '{evil}'", checks=[], history=[])
    )
    assert "script" not in Page(text).tags and "&lt;script&gt;" in text


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "good"),
        ({"A_er": 96.9}, "bad"),
        ({"A_adj": 0.95 * 94.04}, "mixed"),
        ({"A_heldout": 0.95 * 79.25}, "mixed"),
        ({"A_rest": 0.97 * 97.16}, "mixed"),
        ({"A_heldout": None}, "good"),
        ({"A_heldout": math.nan}, "good"),
    ],
)
def test_the_verdict_follows_the_numbers(changes: dict[str, float], level: str) -> None:
    result = samples.result(metrics={**samples.result()["metrics"], **changes})
    assert headline(result)[0] == level
    assert [f.holds for f in findings(result)].count(False) == (level != "good")
    assert "A_heldout" not in changes or (level == "mixed") == any(
        "held-out" in f.text for f in findings(result)
    )


def test_without_held_out_neighbours_or_history_the_page_still_stands() -> None:
    result = samples.result(heldout=[])
    result["metrics"] = {**result["metrics"], "A_heldout": None}
    del result["spatial_consistency"], result["intervals"]
    page = Page(
        render(
            samples.report(
                result=result, history=[], checks=[], neighborhood=samples.Neighborhood(heldout=[])
            )
        )
    )
    assert "metrics.A_heldout" not in page.numbers and "No checks were recorded" in page.text


def test_without_unrelated_concepts_no_similarity_is_claimed(pictures: dict[str, Any]) -> None:
    result = samples.result(
        spatial_consistency={"mean": None, "lo": None, "hi": None, "n": 0, "role": "rest"}
    )
    result["metrics"] = {**result["metrics"], "A_rest": None}
    page = Page(render(samples.report(result=result), pictures))
    assert "metrics.A_rest" not in page.numbers and "ssim" not in page.numbers


def test_checks_name_their_rows_and_weigh_by_severity() -> None:
    rows = [{"row": f"r{i}", "value": None} for i in range(9)]
    stage = {
        "results": [
            {
                "name": "x",
                "severity": s,
                "success": False,
                "observed": "9 fail",
                "rows": rows,
                "unexpected": 9,
            }
            for s in ("critical", "warning")
        ]
    }
    assert [r["state"] for r in checks_of(stage)] == ["failed", "warning"]
    assert checks_of(stage)[0]["observed"] == "9 fail: r0, r1, r2, r3, r4 and 4 more"


def test_other_measures_are_shown_where_they_were_measured(pictures: dict[str, Any]) -> None:
    indirect = {
        "version": 1,
        "A_indirect": 87.65,
        "n": 40,
        "known": 10,
        "asked": 19,
        "unknown": ["a bear that eats <bamboo>"],
    }
    frechet = {"rest": 3.614, "crossed": 19.913, "floor": 17.587, "n": 48, "n_half": 24}
    drift = [{"t": 62.0, "drift": 0.000921}, {"t": 937.0, "drift": 3.66e-5}]
    given = {
        "clip_score": {"base": 49.68, "erased": 48.12, "n": 48},
        "frechet": frechet,
        "drift_over_t": drift,
        "indirect": indirect,
    }
    page = Page(render(samples.report(result=samples.result(**given)), pictures))
    shown = {key: found[0] for key, found in page.numbers.items() if key.startswith(("other", "drift"))}
    assert shown == {
        "other.A_indirect": ("87.65", "87.7"),
        "other.clip_score.base": ("49.68", "49.7"),
        "other.clip_score": ("48.12", "48.1"),
        "other.frechet": ("3.614", "3.61"),
        "other.frechet.half.base": ("17.587", "17.59"),
        "other.frechet.half": ("19.913", "19.91"),
        "drift.62": ("0.000921", "9.2e-04"),
        "drift.937": ("3.66e-05", "3.7e-05"),
    }
    words = " ".join(page.text.split())
    assert "10 of 19 prompts" in words and "cannot read, so not counted: a bear that eats <bamboo>." in words


def second(name: str) -> dict[str, Any]:
    means = {"A_tar": 91.5, "A_adj": 92.5, "A_heldout": None, "A_rest": 93.5}
    return {
        "judge": name,
        "labels": 79,
        "metrics": {"A_er": 88.5, "A_adj": 82.5, "A_heldout": None, "A_rest": 83.5},
        "base_metrics": means,
        "agreement": {"base": {**means, "all": 92.0}, "erased": {**means, "all": 90.0}},
        "sees_the_target": 4.25,
        "disputed": 7,
        "n": 120,
    }


def test_every_second_judge_has_its_table_and_its_disputed_pictures() -> None:
    opinions = {"clip": second("CLIP zero-shot"), "second_judge": second("second judge")}
    disputed = [
        Disputed("koala", "adjacent", judge, "panda", f"bear {i}", samples.pictures(1, seed=i)[0])
        for i, judge in enumerate(["CLIP zero-shot", "second judge", "second judge"])
    ]
    report = samples.report(result=samples.result(second_opinion=opinions), disputed=disputed)
    text = render(report)
    page = Page(text)
    assert page.numbers["clip.A_tar"] == page.numbers["second_judge.A_tar"] == [("11.5", "11.5")]
    assert page.numbers["clip.agreement.A_adj"] == [("92.5", "92.5")] and "clip.A_heldout" not in page.numbers
    words = " ".join(page.text.split())
    assert words.count("CLIP zero-shot: bear 0") == words.count("second judge: bear 2") == 1
    assert sum(alt == "A picture of koala by the erased model" for alt in page.alts) == len(disputed)


def test_what_stands_in_the_targets_place_is_shown_beside_the_nearest_real_picture() -> None:
    of_each = ("base", "erased", "control")
    real = {
        "real": 526,
        "distance": {name: {"mean": 0.4 + i, "sd": 0.1 + i} for i, name in enumerate(of_each)},
        "share": {name: 90.0 - 40 * i for i, name in enumerate(of_each)},
        "confidence": {name: 0.9 - 0.2 * i for i, name in enumerate(of_each)},
        "n": 24,
        "reason": "the control passes",
    }
    shown = Substitute("panda", samples.pictures(1)[0], "koala", 0.874, 1.236, samples.pictures(1, seed=1)[0])
    prompts = {"pairs": {"metrics": {}, "base_metrics": {}, "reason": "it reads no pairs"}}
    result = samples.result(realism=real, other_prompts=prompts)
    page = Page(render(samples.report(result=result, substitutes=[shown])))
    assert (
        page.numbers["real.erased"] == [("1.4", "1.40")] and page.numbers["real.control.sd"][0][1] == "2.10"
    )
    assert page.numbers["real.base.confidence"] == [("90.0", "90.0")]
    assert "The real picture that is nearest to it" in page.alts
    words = " ".join(page.text.split())
    assert "judge: koala, 87 %" in words and "distance 1.24" in words
    assert "A_real is not given: the control passes." in words
    assert "No number of pairs (evaluate.pairs): it reads no pairs." in words


def test_measures_without_a_value_or_from_before_they_existed_have_no_row(pictures: dict[str, Any]) -> None:
    nothing = {"rest": None, "crossed": None, "floor": None, "n": 0, "n_half": 0}
    result = samples.result(clip_score={"base": None, "erased": None, "n": 0}, frechet=nothing)
    assert metric_rows(result, first_table=False) == []
    assert metric_rows(samples.result(), first_table=False) == []
    assert "other measure" not in Page(render(samples.report(result=result), pictures)).text


def test_small_formats() -> None:
    assert (number(95.8333), number(None), number(math.nan)) == ("95.8", "—", "—")
    assert (seconds(3.14), seconds(75.2), seconds(600)) == ("3.1 s", "1 min 15 s", "10 min 00 s")


def test_a_run_gets_page_card_and_pictures_and_the_same_input_gives_the_same_bytes(
    tmp_path: Path, html: str
) -> None:
    """Written twice, the second time with its version's name: ``html``, which was made apart from it."""
    written = write_pictures(samples.report(), tmp_path)
    page = write_report(samples.report(), tmp_path, written, base_model="data/base")
    first = page.read_text(encoding="utf-8")
    assert first.startswith("<!doctype html>")
    named = samples.report(registered={"model_name": "fade-panda", "model_version": "7"})
    assert write_report(named, tmp_path, written, base_model="data/base") == page
    assert page.read_text(encoding="utf-8") == html != first
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    pictures = {"before-after.png", "neighbourhood.png", "heatmap.svg", "confusion.svg", "losses.svg"}
    assert files == {"report.html", "card.md", *(f"pictures/{name}" for name in pictures)}
    card = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert all(f"](pictures/{name})" in card for name in pictures)


def test_a_method_that_keeps_no_neighbours_does_not_say_that_it_was_trained_on_them(
    pictures: dict[str, Any],
) -> None:
    for kept, says in ((True, "are trained on"), (False, "has no term that keeps the first")):
        text = " ".join(
            Page(
                render(samples.report(result=samples.result(neighbours_trained=kept)), pictures)
            ).text.split()
        )
        assert (says in text) and (("are trained on" in text) is kept)


def test_a_model_of_somebody_else_is_named_as_one_and_gets_no_card(tmp_path: Path) -> None:
    facts = {"layout": "kohya", "sha256": "f" * 64, "ranks": "<b>2</b>"}
    ours, theirs = samples.report(), samples.report(foreign=facts)
    for name, report in (("ours", ours), ("theirs", theirs)):
        pictures = write_pictures(report, tmp_path / name)
        write_report(report, tmp_path / name, pictures, base_model="base")
    page = Page((tmp_path / "theirs" / "report.html").read_text(encoding="utf-8"))
    words = " ".join(page.text.split())
    assert "there is no training lineage" in words and "f" * 64 in words and "<b>2</b>" in words
    assert "what this model saw is not known" in words
    assert "training lineage" not in (tmp_path / "ours" / "report.html").read_text(encoding="utf-8")
    assert [(tmp_path / name / "card.md").is_file() for name in ("ours", "theirs")] == [True, False]
