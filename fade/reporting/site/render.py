"""The pages, the style sheet, the script and ``data.json`` of a site. Same data, same bytes."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade import __version__
from fade.evaluation import metrics
from fade.governance import promotion
from fade.reporting.graph import Graph, lineage_graph
from fade.reporting.site.data import BAD_STATES, GOOD_STATES, SiteData, VersionRow
from fade.reporting.site.origins import origins_graph
from fade.reporting.theme import DARK, LIGHT
from fade.reporting.verdict import number

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent.parent / "templates"
STYLE, SCRIPT, DATA = "assets/site.css", "assets/site.js", "data.json"
PAGES = {
    "index.html": "Overview",
    "requests.html": "Requests",
    "champions.html": "Champions",
    "versions.html": "Versions",
    "releases.html": "Releases",
    "audits.html": "Audits",
    "decisions.html": "Decisions",
    "lineage.html": "Lineage",
    "evidence.html": "Evidence",
}
"""File -> its name in the navigation; ``search.html`` is reached by the search field."""
PICTURES = {
    "before-after.png": "Before and after, the same seeds",
    "neighbourhood.png": "The neighbourhood",
    "release.png": "The original, each champion alone, and the release",
}
"""Grids among a version's artifacts that the site copies, and their captions."""
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Categories of characters that show nothing or turn the text around them."""


@cache
def generator(*readers: Path) -> str:
    """This package's version, and a hash of the code and the templates that make the pages; ``readers``: the
    code that makes `SiteData`."""
    here = Path(__file__).parent
    files = [*here.glob("*.py"), *TEMPLATES.glob("site*"), here.parent / "graph.py", here.parent / "theme.py"]
    files += [Path(metrics.__file__), Path(promotion.__file__), *readers]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return f"{__version__} {digest.hexdigest()[:16]}"


def render_site(data: SiteData) -> dict[str, str]:
    """Path below the site's folder -> text of the file. Pictures and evidence are not among them."""
    files = {name: _page(f"site_{name}", data, name, title=title) for name, title in PAGES.items()}
    files["search.html"] = _page("site_search.html", data, "search.html", title="Search")
    for request in data.requests:
        files[request.file] = _page("site_request.html", data, request.file, request=request)
    for version in data.versions:
        graph = record_graph(version, data.records.get(version.label))
        files[version.file] = _page("site_version.html", data, version.file, version=version, graph=graph)
    return {**files, **assets(), DATA: data.to_json()}


def assets() -> dict[str, str]:
    """The style sheet and the script."""
    colours = {"light": LIGHT.css(), "dark": DARK.css()}
    return {
        STYLE: _environment().get_template("site.css").render(**colours),
        SCRIPT: (TEMPLATES / "site.js").read_text(encoding="utf-8"),
    }


def record_graph(version: VersionRow, record: Mapping[str, Any] | None) -> Graph | None:
    """The graph of one version's record; None where there is none, or one that lacks what it needs."""
    if not record or version.problem:
        return None
    names = {"target": version.concept, "method": version.method, "seed": version.seed}
    metrics = {"A_er": None, "ERB": None, **(record.get("outputs", {}).get("metrics") or {})}
    try:
        return lineage_graph(record, {**names, "metrics": metrics})
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def visible(value: Any) -> Any:
    """A text without characters that show nothing or turn what stands beside them (RLO, ESC, NUL): their
    numbers stand in their place. Line breaks and anything that is no text stay."""
    if not isinstance(value, str) or (value.isascii() and value.isprintable()):
        return value
    shown = "".join(
        f"\\u{ord(one):04x}" if unicodedata.category(one) in _HIDDEN and one not in "\n\t" else one
        for one in value
    )
    return type(value)(shown)


def state_class(state: str) -> str:
    """``good``, ``bad`` or ``mixed``: the colour that goes with a word for a state."""
    return "good" if state in GOOD_STATES else "bad" if state in BAD_STATES else "mixed"


def day(at: str) -> str:
    """``2026-01-31T09:05:07+00:00`` -> ``2026-01-31 09:05``; any other text as it is."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d.*)?", at)
    return f"{match[1]} {match[2]}" if match else at


def _page(template: str, data: SiteData, file: str, **values: Any) -> str:
    values.setdefault("title", "")
    origins = origins_graph(data) if file == "lineage.html" else None
    root = "../" * file.count("/")
    return (
        _environment()
        .get_template(template)
        .render(data=data, file=file, root=root, pages=PAGES, origins=origins, **values)
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=visible,
    )
    environment.globals.update(captions=PICTURES)
    environment.filters.update(number=number, state_class=state_class, day=day)
    return environment
