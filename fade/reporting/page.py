"""What every HTML page is made with, and the pages of the checks and of an audit. A page is ONE file:
pictures as data: URIs, no script, no network, light and dark."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.governance.audit import GOOD
from fade.reporting.theme import DARK, LIGHT
from fade.reporting.verdict import number
from fade.utils.text import visible

if TYPE_CHECKING:
    from jinja2 import Environment

AUDIT_PICTURES = {"recorded": "as it was registered", "again": "made again by the audit"}
AUDIT_ROWS = 40
"""Differences that the page names; audit.json has all."""
CHECK_ROWS = 20
"""Failing rows of a check that its page names."""


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    environment.globals.update(light=LIGHT, dark=DARK)
    environment.filters.update(number=number, plain=plain, fence=fence)
    return environment


def _shown(value: Any) -> Any:
    """What a template prints of a value: no control or invisible character of a text takes effect."""
    return visible(value, lines=True) if type(value) is str else value


def render_template(name: str, **values: Any) -> str:
    """A template of ``templates/``, filled: whatever is put into HTML is escaped, invisible characters are
    shown as escapes, and a name that is not there is an error. Same input, same bytes."""
    return _environment().get_template(name).render(**values)


def data_uri(data: bytes) -> str:
    """PNG bytes as a data: URI."""
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def plain(words: Any) -> str:
    """A name as text: Markdown's own signs and HTML lose their meaning, line breaks go."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(str(words).split()))


def fence(code: str, language: str) -> str:
    """Markdown's code block, whatever backticks the code holds."""
    marks = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`+", code))])
    return f"{marks}{language}\n{code}\n{marks}"


def render_checks(title: str, results: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """The page of normalised results (see tasks.data.validate.Checks.results), with a few facts about the
    data."""
    failed = [r for r in results if not r["success"]]
    critical = sum(r["severity"] == "critical" for r in failed)
    order = {"critical": 0, "warning": 1}
    ordered = sorted(results, key=lambda r: (r["success"], order.get(r["severity"], 2)))
    counts = {
        "passed": len(results) - len(failed),
        "critical": critical,
        "warning": len(failed) - critical,
    }
    return render_template(
        "checks.html", title=title, results=ordered, facts=facts, counts=counts, named=CHECK_ROWS
    )


def render_audit(content: Mapping[str, Any], folder: Path) -> str:
    """The page of ``audit.json``. ``folder``: holds its pictures, ``recorded.png`` and ``again.png``, as far
    as there are any."""
    verdict = content["verdict"]
    files = {title: folder / f"{name}.png" for name, title in AUDIT_PICTURES.items()}
    differences = [{**one, "kind": kind} for kind in ("differences", "reasons") for one in verdict[kind]]
    return render_template(
        "audit.html",
        audit=content,
        level="good" if verdict["name"] in GOOD else "bad",
        differences=differences[:AUDIT_ROWS],
        more=len(differences) - AUDIT_ROWS,
        metrics=_audit_metrics(content),
        pictures={title: data_uri(file.read_bytes()) for title, file in files.items() if file.is_file()},
    )


def _audit_metrics(content: Mapping[str, Any]) -> list[tuple[str, float | None, float | None]]:
    """Name, recorded and replayed value of each metric, None where it was not measured."""
    if not content["recorded"]:
        return []
    record, replay = content["recorded"]["lineage"]["outputs"], (content["again"] or {}).get("outputs", {})
    return [
        (f"{prefix}{name}", value, (replay.get(section) or {}).get(name))
        for section, prefix in (("metrics", ""), ("base_metrics", "original "))
        for name, value in (record.get(section) or {}).items()
    ]
