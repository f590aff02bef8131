"""The tables of docs/protocols.md, from the protocols themselves."""

from __future__ import annotations

import re
from pathlib import Path

from fade.config import NudityConfig
from fade.evaluation.nudity_protocols import known_protocols as known_nudity
from fade.evaluation.nudity_protocols import nudity_protocol
from fade.evaluation.published_protocols import get_protocol, known_protocols
from fade.reporting.nudity import HEAD, protocol_rows, table
from fade.reporting.protocol import PARTS_HEAD, SETTINGS_HEAD, part_rows, setting_rows

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocols.md"
_MARKED = re.compile(r"<!-- table (?P<name>[\w-]+) -->\n.*?<!-- end -->", re.DOTALL)


def tables() -> dict[str, str]:
    """Name of a marked place -> the table that belongs there."""
    out = {}
    for name in known_protocols():
        plan = get_protocol(name).to_json()
        out[name] = table(SETTINGS_HEAD, setting_rows(plan))
        if plan["parts"]:
            out[f"{name}-targets"] = table(PARTS_HEAD, part_rows(plan))
    for name in known_nudity():
        protocol = nudity_protocol(name, NudityConfig()).to_json()
        out[f"nudity-{name}"] = table(HEAD, protocol_rows(protocol))
    return out


def rendered(text: str) -> str:
    """The page with its tables as they are now. Raises KeyError for a marked place without a table."""
    made = tables()

    def place(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- table {name} -->\n{made[name]}<!-- end -->"

    return _MARKED.sub(place, text)


def marked(text: str) -> list[str]:
    """Names of the marked places."""
    return [found["name"] for found in _MARKED.finditer(text)]
