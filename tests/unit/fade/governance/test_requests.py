"""requests.yaml: every invalid request is named by id and field, and adding one leaves everything else
alone."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from fade.config import PromotionPolicy
from fade.data.vocabulary import Concept, Vocabulary
from fade.errors import RequestFileError
from fade.governance.request_editing import append_request
from fade.governance.requests import ErasureRequests, Request, load_requests, parse_requests
from fade.run.resolve_params import load_params, resolve

VOCABULARY = Vocabulary(tuple(Concept(name, "") for name in ("panda", "koala", "green apple")))
PATH = Path("requests.yaml")
GOOD: dict[str, Any] = {
    "id": "p1",
    "concept": "panda",
    "reason": "a test",
    "requested_by": "ann",
    "date": "2026-01-02",
}


def requests_of(*entries: Any, repo: Path | None = None) -> ErasureRequests:
    trial = (lambda overrides: resolve(repo / "params.yaml", overrides)) if repo else None
    return parse_requests(yaml.safe_dump({"requests": list(entries)}), PATH, VOCABULARY, trial)


def without(key: str) -> dict[str, Any]:
    return {k: v for k, v in GOOD.items() if k != key}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (without("concept"), "request p1, concept: field required"),
        (without("id"), "request number 2, id: field required"),
        ({**GOOD, "id": "a b"}, "request a b, id: 'a b': string should match"),
        ({**GOOD, "id": 7}, "request 7, id: 7: input should be a valid string"),
        (
            {**GOOD, "concept": "pandaa"},
            "request p1, concept: unknown concept 'pandaa'; did you mean 'panda'",
        ),
        (
            {**GOOD, "replacement": "apple"},
            "request p1, replacement: unknown concept 'apple'; did you mean 'green apple'",
        ),
        ({**GOOD, "replacement": "panda"}, "request p1, replacement: 'panda' cannot be replaced by itself"),
        ({**GOOD, "resaon": "x"}, "request p1, resaon: unknown field; did you mean 'reason'?"),
        *(
            ({**GOOD, "id": one}, f"request {one}, id: '{one}': it ends as the name of a log does")
            for one in ("p1.decisions", "x.history", "q.audits", "a.request.b")
        ),
        ({**GOOD, "reason": ""}, "request p1, reason: '': string should have at least 1 character"),
        ({**GOOD, "date": "soon"}, "request p1, date: 'soon': input should be a valid date"),
        ({**GOOD, "due": "2025-12-31"}, "due lies before date"),
        (
            {**GOOD, "thresholds": {"erasd": 9}},
            "thresholds: 'erasd' is none of the gate's; did you mean 'erased'?",
        ),
        ({**GOOD, "thresholds": {"erased": 101}}, "thresholds: erased = 101 is no percentage"),
        ({**GOOD, "set": ["gate.erased=1"]}, "request p1, set: 'gate.erased=1' is no setting of a run"),
        (
            {**GOOD, "set": ["register.experiment=x"]},
            "request p1, set: 'register.experiment=x' is no setting of a run",
        ),
        *(
            ({**GOOD, "set": [item]}, "is no setting of a run")
            for item in (
                " gate.erased=0",
                "gate .erased=0",
                "gate. erased=0",
                "\u00a0gate.erased=0",
                "\u2003gate\u00a0.erased=0",
                "\ngate.erased=0",
                "gate={erased: 0}",
                "settings={nullspace: [gate.erased=0]}",
                "register.model_prefix=x",
            )
        ),
        ({**GOOD, "set": ["GATE.erased=0"]}, "request p1, set: "),
        ({**GOOD, "set": ["gate"]}, "request p1, set: "),
        ({**GOOD, "set": ["train.stps=1"]}, "request p1, set: "),
        ({**GOOD, "due": "2026-02-30"}, "request p1, due: '2026-02-30': input should be a valid date"),
        ({**GOOD, "date": 20260102}, "request p1, date: 20260102: input should be a valid date, YYYY-MM-DD"),
        ({**GOOD, "date": "1767312000"}, "request p1, date: '1767312000': input should be a valid date"),
        *(
            ({**GOOD, key: day}, f"request p1, {key}: {day!r}: input should be a valid date, YYYY-MM-DD")
            for key in ("date", "due")
            for day in ("-86400", "-0", "2026-01-02T00:00:00Z", "2026-1-2", "2026-01-02\n", "\u0662026-01-02")
        ),
        ({**GOOD, "method": "nullspace/hinge\n"}, "request p1, method: 'nullspace/hinge\\n': character 16"),
        ({**GOOD, "thresholds": {"erased": True}}, "request p1, thresholds.erased: True: input should be"),
        ({**GOOD, "thresholds": {"erased": "1"}}, "request p1, thresholds.erased: '1': input should be"),
        ({**GOOD, "thresholds": {"erased": float("nan")}}, "request p1, thresholds.erased: nan: input"),
        ({**GOOD, "replacement": "x" * 100_000}, "request p1, replacement: "),
        ({**GOOD, "method": "fad"}, "request p1, method: unknown method 'fad'"),
        ({**GOOD, "replacement": "koala"}, "request p1, method: method.replacement is set, but"),
        ("panda", "request number 2: it is no mapping of fields"),
    ],
)
def test_a_request_that_cannot_be_asked_for_is_named_and_the_others_stay(
    entry: Any, message: str, repo: Path
) -> None:
    found = requests_of({**GOOD, "id": "fine"}, entry, repo=repo)
    assert [one.id for one in found.requests] == ["fine"]
    with pytest.raises(RequestFileError) as caught:
        found.validated()
    assert message in str(caught.value), str(caught.value)
    assert caught.value.exit_code == 2


def test_an_id_that_two_have_is_given_to_neither() -> None:
    found = requests_of(GOOD, {**GOOD, "concept": "koala"}, {**GOOD, "id": "koala-1"})
    assert [one.id for one in found.requests] == ["koala-1"]
    assert [str(fault) for fault in found.faults] == ["request p1, id: two requests have it"] * 2
    with pytest.raises(RequestFileError, match="p1, id"):
        found.get("p1")
    with pytest.raises(RequestFileError, match=r"no request 'koala-2'") as caught:
        found.get("koala-2")
    assert caught.value.action == "did you mean 'koala-1'?"


def test_a_key_that_is_no_text_is_a_fault_of_its_request_alone() -> None:
    fields = "concept: panda, reason: r, requested_by: a, date: 2026-01-02"
    bad = [f"- {{id: bad, {fields}, thresholds: {{1: 2}}}}", f"- {{id: odd, {fields}, on: 3}}"]
    found = parse_requests("\n".join(["requests:", f"- {{id: fine, {fields}}}", *bad]), PATH, VOCABULARY)
    assert [one.id for one in found.requests] == ["fine"] and [one.id for one in found.faults] == [
        "bad",
        "odd",
    ]
    assert "thresholds: '1' is none of the gate's" in str(found.faults[0]), found.faults


def test_a_tab_behind_the_list_is_a_sentence() -> None:
    """One YAML library reads it, the other does not."""
    with pytest.raises(RequestFileError, match="cannot be added to: .*Next: add the request with an editor"):
        append_request("requests:\t[]\n", Request.model_validate(GOOD))


def test_thousands_of_ids_are_compared_at_once() -> None:
    """A quadratic comparison takes a minute."""
    lines = [f"- {{id: p{place}, concept: panda, reason: r, requested_by: a, date: 2026-01-02}}"
             for place in range(9000)]  # fmt: skip
    start = time.process_time()
    found = parse_requests("\n".join(["requests:", *lines, lines[0].replace("p0", "P0")]), PATH, VOCABULARY)
    assert time.process_time() - start < 20
    assert len(found.requests) == 8999 and [fault.id for fault in found.faults] == ["p0", "P0"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("requests: [", "cannot be read"),
        ("- id: p1\n", "holds no list of requests"),
        ("requests: panda\n", "holds no list of requests"),
        ("request: []\n", "unknown key 'request'"),
        ("requests: []\nrequests: []\n", "the key 'requests' appears twice"),
        ("requests:\n  - id: p1\n    id: p2\n", "the key 'id' appears twice"),
        ("? [requests]\n: []\n", "cannot be read: line 1: the key is no text"),
        ("requests: " + "[" * 100_000, "cannot be read: line 1: it is nested"),
        (
            "requests:\n- " + "&a [" * 9 + "]" * 9 + "\n- {id: *a}\n- {? [on] : 1}\n",
            "line 4: the key is no text",
        ),
    ],
)
def test_a_file_half_of_which_might_be_lost_is_refused_as_a_whole(
    text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "requests.yaml").write_text(text)
    with pytest.raises(RequestFileError, match=message):
        load_requests(tmp_path / "requests.yaml")
    with pytest.raises(RequestFileError, match=message):
        append_request(text, Request.model_validate(GOOD))


def test_a_typo_in_one_request_stops_no_other() -> None:
    """As a team writes it: dates without quotes, a switch for a number."""
    text = "requests:\n" + "".join(
        f"- {{id: {name}, concept: panda, reason: r, requested_by: b, date: {date}{more}}}\n"
        for name, date, more in (
            ("one", "2026-01-01", ""),
            ("two", "2026-02-30", ""),
            ("three", "2026-01-01", ", due: 2026-13-01"),
            ("four", "2026-01-01", ", thresholds: {erased: yes}"),
            ("five", "2026-01-01", ", due: 2026-12-31"),
        )
    )
    found = parse_requests(text, PATH, VOCABULARY)
    assert [one.id for one in found.requests] == ["one", "five"]
    assert [(fault.id, fault.field) for fault in found.faults] == [
        ("two", "date"),
        ("three", "due"),
        ("four", "thresholds.erased"),
    ]


def test_a_missing_file_is_no_empty_list(tmp_path: Path) -> None:
    with pytest.raises(RequestFileError, match="does not exist"):
        load_requests(tmp_path / "requests.yaml")


def test_only_the_terms_are_in_the_fingerprint() -> None:
    one = Request.model_validate(GOOD)
    for same in (
        {"reason": "x"},
        {"due": "2030-01-01"},
        {"requested_by": "bob"},
        {"thresholds": {"erased": 1}},
        {"withdrawn": "x"},
    ):
        assert Request.model_validate({**GOOD, **same}).fingerprint() == one.fingerprint()
    for other in (
        {"concept": "koala"},
        {"replacement": "koala"},
        {"method": "esd"},
        {"set": ["train.seed=1"]},
    ):
        assert Request.model_validate({**GOOD, **other}).fingerprint() != one.fingerprint()


def test_a_request_changes_only_what_it_names_of_the_gate() -> None:
    gate = Request.model_validate({**GOOD, "thresholds": {"erased": 50}}).gate(PromotionPolicy(erb=12))
    assert (gate.erased, gate.erb, gate.rest_kept) == (50, 12, PromotionPolicy().rest_kept)


FILES = {
    "empty": "",
    "only comments": "# ours\n",
    "an empty list": "requests: []  # none yet\n# the end\n",
    "nothing": "requests:\n",
    "without a last line end": "requests: []",
    "indented": "requests:\n  # first\n  - id: a  # why\n    concept: koala\n"
    "    reason: |\n      long\n\n      # no comment\n    requested_by: b\n"
    "    date: 2026-01-01\n\n  # tail\n",
    "not indented": "requests:\n- {id: a, concept: koala, reason: r, requested_by: b, date: 2026-01-01}\n",
}


@pytest.mark.parametrize("name", FILES)
def test_adding_keeps_every_other_line_and_the_comments(name: str) -> None:
    before, one = (
        FILES[name],
        Request.model_validate(
            {**GOOD, "reason": "ü: 'quoted'", "thresholds": {"erased": 99}, "due": "2026-02-01"}
        ),
    )
    after = append_request(before, one)
    assert parse_requests(after, PATH).requests == (*parse_requests(before, PATH).requests, one)
    kept = [" ".join(line.split()) for line in after.splitlines()]
    assert all(" ".join(line.replace("[]", "").split()) in kept for line in before.splitlines())
    with pytest.raises(RequestFileError, match="a request 'p1' already"):
        append_request(after, one)


def test_a_list_in_brackets_is_not_rewritten() -> None:
    with pytest.raises(RequestFileError, match="in brackets"):
        append_request(
            "requests: [{id: a, concept: koala, reason: r, requested_by: b, date: 2026-01-01}]\n",
            Request.model_validate(GOOD),
        )


def test_the_shipped_file_is_valid_and_its_example_too(repo: Path) -> None:
    params = load_params(repo / "params.yaml")
    text = (repo / params.schedule.requests).read_text(encoding="utf-8")
    assert parse_requests(text, PATH).validated().requests == ()
    example = "requests:\n" + "\n".join(
        line.removeprefix("#") for line in text.splitlines() if line.startswith("#   ")
    )
    (one,) = (
        parse_requests(example, PATH, VOCABULARY, lambda o: resolve(repo / "params.yaml", o))
        .validated()
        .requests
    )
    assert (one.concept, one.due, one.thresholds) == ("panda", dt.date(2026, 12, 31), {"heldout_kept": 95})


def _parsed(**changes: object) -> ErasureRequests:
    entry = {
        "id": "p1",
        "concept": "panda",
        "reason": "r",
        "requested_by": "ann",
        "date": "2026-01-02",
        **changes,
    }
    return parse_requests(yaml.safe_dump({"requests": [entry]}), Path("requests.yaml"))


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("concept", "pan\u200bda", "a name holds no"),
        ("concept", "panda + lemon", "a name holds no ' + '"),
        ("concept", "base", "is reserved"),
        ("replacement", "../x", "a name holds no '..'"),
        ("reason", "x" * 2001, "at most 2,000 characters"),
        ("reason", "a\x1b[2J", "invisible or a control character"),
        ("reason", "  ", "it is blank"),
        ("requested_by", "a" * 201, "at most 200 characters"),
        ("requested_by", "ann\nroot", "invisible or a control character"),
        ("withdrawn", "\u202ex", "invisible or a control character"),
    ],
)
def test_a_text_that_deceives_is_a_fault_of_its_field(field: str, value: str, why: str) -> None:
    (fault,) = _parsed(**{field: value}).faults
    assert fault.field == field and why in fault.text


def test_names_and_texts_are_stored_in_their_normal_form() -> None:
    (request,) = _parsed(concept=" cafe\u0301 ", reason=" two\nlines\n", requested_by=" ann ").requests
    assert (request.concept, request.reason, request.requested_by) == ("café", "two\nlines", "ann")


def test_ids_that_differ_only_by_case_are_faults_that_name_each_other() -> None:
    entry = {"concept": "panda", "reason": "r", "requested_by": "ann", "date": "2026-01-02"}
    both = yaml.safe_dump({"requests": [{"id": "Panda-1", **entry}, {"id": "panda-1", **entry}]})
    found = parse_requests(both, Path("requests.yaml"))
    assert not found.requests and [fault.id for fault in found.faults] == ["Panda-1", "panda-1"]
    assert "'panda-1' differs from it only by the case" in found.faults[0].text
    assert "'Panda-1' differs from it only by the case" in found.faults[1].text
    with pytest.raises(RequestFileError, match="there is a request 'Panda-1' already"):
        append_request(
            yaml.safe_dump({"requests": [{"id": "Panda-1", **entry}]}),
            Request.model_validate({"id": "panda-1", **entry}),
        )
