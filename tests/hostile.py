"""Texts that break or deceive a reader, for every place where a text is shown."""

from __future__ import annotations

HOSTILE = {
    "ESC": "pa\x1b[31mnda\x1b[2J",
    "C1": "pa\x9b31mnda",
    "bell and backspace": "panda\x07\x08\x08",
    "NUL": "pa\x00nda",
    "DEL": "pa\x7fnda",
    "NEL": "pa\x85error: gone",
    "line break": "panda\nerror stop. Next: run rm",
    "carriage return": "panda\rlemon",
    "line separator": "pa\u2028nda\u2029",
    "right to left": "pa\u202eadn\u202c",
    "isolate": "\u2066panda\u2069",
    "zero width": "pa\u200bn\u200dda\ufeff",
    "soft hyphen": "pan\u00adda",
    "filler": "pan\u3164da\u115f",
    "tags": "panda\U000e0041",
    "lone surrogate": "pan\ud800da",
    "markup": "[red]panda[/red][/] [link=http://x]y[/link] [bold",
    "back slash": "panda\\[/]\\",
    "emoji code": ":panda: :skull:",
    "HTML": "<script>alert(1)</script><img src=x onerror=y>",
    "Markdown": "![x](http://x) [y](http://y) `z` **w** | a\n# b",
    "math": "$\\frac$ $x^2$ $",
    "template": "{{ 7 * 7 }}{% x %}{concept} %s {0}",
    "attribute": "\" onload='x' '>",
    "XML": "]]> <!-- &amp; <?x",
    "not Latin": "パンダ 熊猫",
    "long": "panda" * 400,
    "blank": "",
}
FORBIDDEN = {
    *(chr(code) for code in (*range(0x20), 0x7F, *range(0x80, 0xA0), 0xAD, 0x115F, 0x3164, 0xFEFF)),
    *(chr(code) for code in (*range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070))),
    "\ud800",
    "\U000e0041",
}
"""What must not reach a reader raw; a line break only where lines are the form's own."""


def forbidden(text: str, *, lines: bool = True) -> set[str]:
    """The characters of ``text`` that must not be there."""
    return FORBIDDEN.intersection(text) - ({"\n"} if lines else set())
