"""The witness: heads that never go back, revoked adapters, and a file that is read or named."""

from __future__ import annotations

import pytest

from fade.errors import ConfigError, PromotionError
from fade.governance.promotion import PROMOTE, Decision
from fade.governance.witness import Witness
from tests.unit.fade.governance.logs import chain

LOG = "fade-panda.decisions"


def test_a_head_is_recorded_and_never_goes_back() -> None:
    one, two, three = chain(3)
    witness = Witness().advance(LOG, [one, two], "w")
    assert witness.heads == {LOG: two.anchor} and witness.advance(LOG, [], "w") == witness
    assert witness.advance(LOG, [one, two, three], "w").heads == {LOG: three.anchor}
    # read before another process recorded its entry
    assert witness.advance(LOG, [one], "w") == witness
    other = Decision(number=2, by="eve", at="", version="9", action=PROMOTE, previous=1, previous_sha256="")
    with pytest.raises(PromotionError, match="decision 2 was edited, or is missing; w remembers") as caught:
        witness.advance(LOG, [one, other, three], "w")
    assert caught.value.tampered


def test_it_comes_back_from_its_text_sorted_an_entry_a_line() -> None:
    witness = Witness({"b": f"1:{'0' * 64}", "a": f"2:{'1' * 64}"}).revoke("f" * 64, "fade-panda/1")
    assert Witness.parse(witness.to_text(), "w") == witness
    assert witness.to_text().index('"a"') < witness.to_text().index('"b"')
    assert witness.revoke("f" * 64, "another/1") == witness == witness.revoke("", "x/1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<<<<<<< HEAD",
        "[]",
        '{"schema":2,"heads":{},"revoked":{}}',
        '{"schema":1,"heads":{"a":"1"},"revoked":{}}',
        '{"schema":1,"heads":[],"revoked":{}}',
        '{"schema":1,"heads":{},"revoked":{"0":"a/1"}}',
        '{"schema":1,"heads":{"a":1},"revoked":{}}',
    ],
)
def test_a_file_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"registry\.witness\.json cannot be read.*history"):
        Witness.parse(text, "registry.witness.json")
