"""Texts and files near to valid ones, and far from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

TOKENS = [
    *(
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\r",
        b"\t",
        b"\n",
        b" ",
        b"  ",
        b"\\",
        b'"',
        b"'",
        b"|",
        b">",
        b"#",
        b"%",
        b"@",
    ),
    *(
        b"[" * 3000,
        b"{a: " * 3000,
        b"- " * 3000,
        b'{"a":' * 3000,
        b"[" * 40 + b"]" * 40,
        b"]",
        b"}",
        b"{",
        b"[",
        b",",
        b":",
    ),
    *(
        b"&a ",
        b"*a",
        b"<<: *a",
        b"? ",
        b": ",
        b"- ",
        b"---\n",
        b"...\n",
        b"!!python/object:os.system ",
        b"!!set ",
        b"!!int ",
        b"! ",
    ),
    *(
        b".inf",
        b"-.inf",
        b".nan",
        b"NaN",
        b"Infinity",
        b"1e999",
        b"-0",
        b"0x",
        b"0b_",
        b"1:2:3",
        b"9" * 200,
        b"9" * 6000,
        b"yes",
        b"~",
    ),
    *(
        b"2026-02-30",
        b"2026-01-01 10:00:00",
        b"../",
        b"/etc/passwd",
        b"\\ud800",
        b"\\u0000",
        b"{concept}",
        b"{",
        b"null",
        b"true",
    ),
    *(
        "\u202e".encode(),
        "\u2028".encode(),
        "\ufeff".encode(),
        "e\u0301".encode(),
        "\U0001f638".encode(),
        b"a" * 3000,
    ),
]
"""What has broken parsers of this kind before."""
TEXTS = st.one_of(
    st.text(max_size=60), st.sampled_from([token.decode("utf-8", "replace") for token in TOKENS])
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**9, 2 * 10**7, 0, -1, 10**90]),
    st.floats(),
    TEXTS,
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


def near(*valid: bytes) -> st.SearchStrategy[bytes]:
    """A valid file with a few cuts, copies and insertions."""
    edit = st.tuples(
        st.sampled_from(["insert", "cut", "copy", "replace"]),
        st.integers(0, 1 << 16),
        st.integers(0, 60),
        st.one_of(st.sampled_from(TOKENS), st.binary(max_size=8)),
    )
    return st.builds(_edited, st.sampled_from(valid), st.lists(edit, min_size=1, max_size=5))


def _edited(body: bytes, edits: list[tuple[str, int, int, bytes]]) -> bytes:
    for kind, place, length, token in edits:
        at = place % (len(body) + 1)
        head, part, tail = body[:at], body[at : at + length], body[at + length :]
        body = {
            "insert": head + token + part + tail,
            "cut": head + tail,
            "copy": head + part * 3 + tail,
            "replace": head + token + tail,
        }[kind]
    return body


def files(
    dump: Callable[[Any], bytes], trees: st.SearchStrategy[Any], *valid: bytes
) -> st.SearchStrategy[bytes]:
    """Files near a valid one, trees as ``dump`` writes them, and anything."""
    anything = st.one_of(st.binary(max_size=300), TEXTS.map(lambda text: text.encode("utf-8", "replace")))
    return st.one_of(near(*valid), trees.map(dump), anything)


def changed(valid: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping of known keys, some of which have any value, and perhaps one more."""
    values = st.fixed_dictionaries(
        {}, optional={key: st.one_of(st.just(value), TREES) for key, value in valid.items()}
    )
    return st.builds(
        lambda some, more: {**valid, **some, **more}, values, st.dictionaries(TEXTS, TREES, max_size=1)
    )
