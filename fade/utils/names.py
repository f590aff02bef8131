"""Names of concepts, families, styles and artists: one spelling each, none that is invisible, reserved, or
looks like another. Ours; the table of lookalikes is a small part of Unicode's TR39 confusables."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from fade.errors import UsageError
from fade.utils.text import escaped, is_invisible

LONGEST = 200
"""Characters of a name."""
RESERVED = frozenset({"base", "release"})
"""What `--model` and the registry call the original model and the sum of all champions."""
TOGETHER = " + "
"""Between the names of targets that are erased together."""
_LOOKALIKES = {
    # Cyrillic, Greek, Armenian, Cherokee and other letters that a font draws as a Latin one
    "a": "аАαΑɑᎪ", "b": "вВβΒЬᏴ", "c": "сСϲϹᏟ", "d": "ԁᎠ", "e": "еЕεΕҽᎬ", "f": "ϝ", "g": "ɡԌᏀ",
    "h": "һҺнНΗհᎻ", "i": "іІιΙıɩΊ", "j": "јЈϳͿᎫ", "k": "кКκΚᏦ", "l": "ⅼᏞӏӀ", "m": "мМμΜᎷ",
    "n": "ηΝոռ", "o": "оОοΟσօՕ", "p": "рРρΡᏢ", "q": "ԛԚգ", "r": "гᏒᎡ", "s": "ѕЅᏚ", "t": "тТτΤᎢ",
    "u": "υսՍ", "v": "ѵѴνᏙ", "w": "ԝԜωшᎳ", "x": "хХχΧ", "y": "уУүҮγΥ", "z": "ζΖᏃ",
    "-": "‐‑‒–—−", "'": "’‘ʼ′`´",
}  # fmt: skip
_ALPHABETS = (
    ("abcdefghijklmnopqrstuvwxyz", "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡxʏᴢ"),  # small capitals
    ("abcdefghijklmnoprstuvwxyz", "ꓮꓐꓚꓓꓰꓝꓖꓧꓲꓙꓗꓡꓟꓠꓳꓑꓣꓢꓔꓴꓦꓪꓫꓬꓜ"),  # Lisu
    ("abcehikmnoptxyz", "ⲀⲂⲤⲈⲎⲒⲔⲘⲚⲞⲢⲦⲬⲨⲌ"), ("aceiknopx", "ⲁⲥⲉⲓⲕⲛⲟⲣⲭ"),  # Coptic
)  # fmt: skip
_LATIN = {ord(like): letter for letter, likes in _LOOKALIKES.items() for like in likes} | {
    ord(like): letter for pair in _ALPHABETS for letter, like in zip(*pair, strict=True)
}


def normal_name(text: str) -> str:
    """``text`` as the name that is stored and compared: NFC, without outer blanks. Raises ValueError, which
    says why a text is no name."""
    name = unicodedata.normalize("NFC", text).strip(" ")
    if not name:
        raise ValueError("a name is not empty")
    if len(name) > LONGEST:
        raise ValueError(f"a name has at most {LONGEST} characters, this one {len(name):,}")
    for before, one in zip(" " + name, name, strict=False):
        kind = unicodedata.category(one)
        if is_invisible(one) or kind == "Cn" or (one != " " and kind == "Zs"):
            raise ValueError(f"a name holds no {escaped(one)}: it is invisible, or no plain blank")
        if before == " " and kind.startswith("M"):
            raise ValueError(f"a name holds no {escaped(one)} without a letter before it")
    if skeleton(name) in RESERVED:
        raise ValueError(f"{name!r} is reserved")
    for sign in (TOGETHER, "..", "/", "\\", "{", "}"):
        if sign in name:
            raise ValueError(f"a name holds no {sign!r}")
    if name.startswith(("-", ".")):
        raise ValueError(f"a name does not begin with {name[0]!r}")
    return name


def skeleton(name: str) -> str:
    """What two names that look alike have in common: without case, width, script and double blanks."""
    plain = unicodedata.normalize("NFKC", name).translate(_LATIN)
    plain = unicodedata.normalize("NFKC", plain.casefold()).translate(_LATIN)
    return " ".join(plain.split())


def lookalikes(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two names that look alike, or None."""
    by_skeleton: dict[str, str] = {}
    for name in names:
        if (other := by_skeleton.setdefault(skeleton(name), name)) != name:
            return other, name
    return None


def checked_name(kind: str, text: str, *, stage: str) -> str:
    """As `normal_name`, for a name that the user typed. Raises UsageError, which names its kind."""
    try:
        return normal_name(text)
    except ValueError as error:
        action = f"write the {kind} as the data set has it."
        raise UsageError(f"the {kind} {text[:LONGEST]!r}: {error}.", stage=stage, action=action) from None
