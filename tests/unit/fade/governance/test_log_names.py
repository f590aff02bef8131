"""Names of logs: what each is about, and a request whose id ends as a log's name does."""

from __future__ import annotations

import pytest

from fade.governance.log_names import LOGS, REQUEST, is_log, log_kind, subject


def test_a_log_is_about_a_model_or_is_a_requests() -> None:
    assert [subject(f"fade-panda{end}") for end in (".decisions", ".audits", ".history")] == [
        "fade-panda"
    ] * 3
    assert subject("fade.request.p1.history-2") == "fade.request.p1.history-2"


@pytest.mark.parametrize("end", LOGS)
def test_the_log_of_a_request_is_none_of_a_model_whatever_its_id(end: str) -> None:
    log = f"fade.request.p1{end}"
    assert log_kind(log) == REQUEST and subject(log) == log
    assert log_kind(f"fade-p1{end}") == end and is_log(log) and not is_log("fade-p1")
