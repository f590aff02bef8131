"""The part of a model card that changes after the card was written, and the card cut to what a registry's
description holds."""

from __future__ import annotations

import re
from collections.abc import Sequence

ROOM = 5000
"""Characters of a description: MLflow's column, which PostgreSQL enforces and SQLite does not."""
UNDECIDED, NOT_AUDITED = "nothing was decided yet", "not audited"
_STATE = "State"
_GIVEN_UP = ("Concepts", "Use", "Provenance", "Grids", "Limits", "Make it again")
"""Sections of a card that a description does without, in this order, when it is too long."""


def state(decisions: str = UNDECIDED, audit: str = NOT_AUDITED) -> list[str]:
    """The lines of the card's section on its state."""
    return [f"## {_STATE}", "", f"- Decisions: {decisions}.", f"- Audit: {audit}.", ""]


def restated(card: str, decisions: str, audit: str) -> str:
    """The card with another state; one that has no such section (of an earlier version) gets it at its
    end."""
    parts = sections(card)
    fresh = "\n".join(state(decisions, audit)) + "\n"
    if _STATE not in [name for name, _ in parts]:
        return f"{card.rstrip()}\n\n{fresh}"
    return "".join(fresh if name == _STATE else body for name, body in parts)


def describe(card: str, room: int = ROOM) -> str:
    """The card without its YAML head, as Markdown of at most ``room`` characters; what was left out is named,
    and where it is.

    A description shows no pictures: their lines say under which artifact they lie.
    """
    body = re.sub(r"\A---\n.*?\n---\n+", "", card, flags=re.DOTALL)
    body = re.sub(r"!\[([^\]]*)\]\(([^)\s]+)\)", r"\1: artifact `\2`", body)
    parts, out = sections(body), []
    for name in ("", *_GIVEN_UP):
        out += [name] if name and name in dict(parts) else []
        text = "".join(body for title, body in parts if title not in out).rstrip() + "\n\n" + _note(out)
        if len(text) <= room:
            return text
    tail = f"…\n\n{_note(out)}"
    return text[: room - len(tail)] + tail


def sections(text: str) -> list[tuple[str, str]]:
    """(title, body with its heading) of everything that a ``## `` heading opens; what stands before the first
    has no title."""
    found = re.split(r"(?m)^(?=## )", text)
    return [(match[1] if (match := re.match(r"## (.*)", body)) else "", body) for body in found]


def _note(left_out: Sequence[str]) -> str:
    missing = f" Left out here: {', '.join(left_out).lower()}." if left_out else ""
    return f"The whole card is the run's artifact `card.md`.{missing}\n"
