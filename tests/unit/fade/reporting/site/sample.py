"""Data of a site, for tests of its pages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fade.reporting.site.data import Entry, Number, Problem, RequestRow, SiteData, VersionRow
from tests.unit.fade.reporting import samples

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "</title><script>alert(1)</script>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "safe\u202e\u2066gnp.exe\u0000\x1b[31m\u009b\u200b",
    "&lt;b&gt;",
    "[link](http://example.com) $\\frac$",
]


def site(text: str = "panda", **changes: Any) -> SiteData:
    """Data whose every free text is ``text``."""
    entry = Entry(1, text, "2026-01-31T10:00:00+00:00", "promote", text, "overridden", True, ((text, False),))
    audit = Entry(1, text, text, "different", text, text)
    version = VersionRow(
        "fade-panda", "1", concept=text, method=text, seed=text, state="champion", run_id=text,
        adapter_sha256=text, lineage_sha256=text, data_md5=text, base_sha256=text, commit=text,
        overrides=(text,), neighbours=(text,), numbers=(Number(text, 99.0, None),), checks=((text, 1, 2),),
        stale=text, reevaluated_at=text, decisions=(entry,), audits=(audit,),
        pictures=("pictures/fade-panda-1/before-after.png",),
        evidence=(("record", "evidence/records/x.json"),),
        made_at="2026-01-31T10:00:00+00:00",
    )  # fmt: skip
    release = VersionRow(
        "fade.release", "1", concept=text, release=True, state="champion", parts=("fade-panda/1", text),
        revoked_parts=(text,), concepts=((text, (Number(text, 1.0),)),), numbers=(Number(text, 1.0),),
    )  # fmt: skip
    request = RequestRow(
        "panda-1", "failed", text, text, text, text, text, True, "fade-panda/1", text, text, 2,
        (replace(entry, what=text),),
    )  # fmt: skip
    strange = [RequestRow(text, "faulty", text, version=text), VersionRow(f"fade-{text}", "2", problem=text)]
    values: dict[str, Any] = {
        "made_at": "2026-05-01T09:00:00+00:00",
        "generator": "0",
        "prefix": "fade",
        "requests": (request, strange[0]),
        "versions": (version, release, strange[1]),
        "problems": (Problem(text, text),),
        "evidence": ("evidence/records/x.json",),
        "records": {"fade-panda/1": samples.lineage()},
    }
    return SiteData(**{**values, **changes})


def team_site(versions: int, requests: int) -> SiteData:
    """A team's: twelve versions a concept, every third request overdue."""
    rows = [_version(i // 12, i % 12 + 1) for i in range(versions)]
    states = ("done", "open", "running", "failed", "withdrawn")
    asked = [
        RequestRow(
            f"r-{i:03d}", states[i % 5], f"because of {i}", f"concept {i % 40:02d}", "ann", "licence",
            f"2026-{i % 12 + 1:02d}-15", i % 3 == 0, f"fade-concept-{i % 25:02d}/12",
        )
        for i in range(requests)
    ]  # fmt: skip
    records = {row.label: samples.lineage() for row in rows}
    return SiteData("2026-05-01T09:00:00+00:00", "0", "fade", tuple(asked), tuple(rows), records=records)


def _version(concept: int, number: int) -> VersionRow:
    at = f"2026-{number:02d}-03T10:00:00+00:00"
    name = f"fade-concept-{concept:02d}"
    numbers = tuple(Number(f"metric {i}", 90.0 + (concept * 7 + number + i) % 10, 100.0) for i in range(5))
    first = (concept, number) == (0, 1)
    state = "champion" if number == 12 else "retired"
    return VersionRow(
        name, str(number), f"concept {concept:02d}", "nullspace", "0", state,
        made_at=at, adapter_sha256="ab" * 32, numbers=numbers,
        decisions=(Entry(number, "ann", at, "promote", "", "", True, (("erased 99.0 (asked 97)", True),)),),
        audits=(Entry(1, "carl", at, "evidence holds", "", "no control"),) if number % 3 else (),
        pictures=("pictures/fade-concept-00-1/before-after.png",) if first else (),
    )  # fmt: skip
