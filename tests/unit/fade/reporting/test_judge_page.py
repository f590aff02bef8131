"""The picture of a judge's mistakes shows those that are largest, by their names."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from fade.reporting.judge_page import confusion_chart, most_confused


def matrix(size: int = 40) -> np.ndarray:
    made = 10 * np.eye(size, dtype=np.int64)
    made[3, 7], made[20, 21] = 8, 2
    return made


def test_the_largest_mistakes_are_shown() -> None:
    assert most_confused(matrix(), most=2) == [3, 7]
    assert most_confused(matrix(), most=9) == [3, 7, 20, 21]
    assert most_confused(np.eye(5, dtype=np.int64), most=3) == [0, 1, 2]


def test_the_chart_names_them_and_holds_no_markup_of_theirs() -> None:
    labels = [f"thing {i}" for i in range(40)]
    labels[7] = "<script>"
    chart = confusion_chart(matrix(), labels, "What it confuses").file("Confusion")
    words = [one.text for one in ElementTree.fromstring(chart).iter() if one.text]
    assert {"thing 3", "<script>", "thing 20", "44", "What it confuses"} <= set(words)
    assert "thing 5" not in words and "<script>" not in chart
