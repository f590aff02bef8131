"""Settings of published protocols: each value with where it is from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from fade.errors import UsageError

Source = Literal["paper", "release", "ours"]
"""The paper's own words; the authors' code or their answers about it; chosen here."""


@dataclass(frozen=True)
class Setting:
    """One value of a protocol. Raises UsageError for a source that is none."""

    name: str
    value: Any
    """JSON: a number, a word, a list of words."""
    source: Source
    unit: str = ""
    note: str = ""
    """What the value does not show: how it was read, what it stands for."""
    key: str = ""
    """Of params.yaml, where the value goes; empty: it only describes."""

    def __post_init__(self) -> None:
        if self.source not in get_args(Source):
            what = f"{self.name}: {self.source!r} is no source of a setting."
            raise UsageError(what, stage="protocol", action=f"name one of {', '.join(get_args(Source))}.")

    @property
    def text(self) -> str:
        """The value and its unit as a reader sees them."""
        value = ", ".join(map(str, self.value)) if isinstance(self.value, list | tuple) else str(self.value)
        return f"{value or 'none'} {self.unit}".strip()

    def to_json(self) -> dict[str, Any]:
        """Without what is empty."""
        value = list(self.value) if isinstance(self.value, tuple) else self.value
        more = {"unit": self.unit, "note": self.note, "key": self.key}
        fields = {"name": self.name, "value": value, "source": self.source, **more}
        return {name: one for name, one in fields.items() if one != "" or name == "value"}


def setting_row(setting: Mapping[str, Any]) -> list[str]:
    """Name, value, source and note of a `Setting.to_json`, as a table shows them."""
    one = Setting(**{"source": "ours", **setting})
    return [one.name, one.text, one.source, one.note]
