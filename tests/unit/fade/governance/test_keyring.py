"""The team's keys: which signature counts on which entry; rotation, a lost key, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fade.errors import SignatureError
from fade.governance.append_log import StoredEntry
from fade.governance.keyring import KeyRing, read_keyring, signed_text

OLD, NEW, OTHER = (
    "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE"
    f"{line[:28]}\n{line[28:]}\n-----END PUBLIC KEY-----\n"
    for line in (
        "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==",
        "fPJ7GI0DT36KUjgDBLUaw8CJaeJ38hs1pgtI/EdmmXgHd1UQ247QQCk9msafdDDbun2t5jzpgimeBLedInhz0Q==",
        "Xsvk0aYzCkTI9++VHUvxZebGtyHvramF+0FmG8bn/WyHNGQMSZj/fjdLBs4aZKLs2CqwNjhPuD2aebEnon1QMg==",
    )
)  # the curve's generator, twice and three times
BODY = OLD.splitlines()[1] + OLD.splitlines()[2]
REWRAPPED = "\r\n".join((OLD.splitlines()[0], f"  {BODY[:40]}", BODY[40:80], BODY[80:], OLD.splitlines()[-1]))
LOG = "fade-panda.decisions"
NO_HEADS = ([], "", 0, False, [1], {LOG: 2}, {LOG: None})
NO_KEYS = tuple(
    OLD.replace(*change)
    for change in (
        ("axfR", "axfS"),  # not on the curve
        (BODY[:4], "MFoz"),  # another algorithm
        (OLD.splitlines()[2], ""),
        ("MFkw", "MF w?"),
        ("BEGIN PUBLIC KEY-----", "BEGIN PUBLIC KEY-----\nComment: x"),
    )
)
HEAD = f"2:{'0' * 64}"


def is_signed(text: str, signature: str, pem: str) -> bool:
    return signature == f"{text} by {pem}"


def check(ring: KeyRing, number: int, pem: str, log: str = LOG, signed_as: str = LOG) -> None:
    entry = StoredEntry(number, "text", f"{signed_text(signed_as, 'text')} by {pem}")
    ring.verify_entry(log, "decision", entry, is_signed, "team.pub")


def test_a_signature_counts_by_any_active_key_and_by_no_other() -> None:
    ring = KeyRing.parse(OLD + NEW, "team.pub")
    for pem in (OLD, NEW):
        check(ring, 9, pem)
    with pytest.raises(SignatureError, match=r"team\.pub does not verify fade-panda\.decisions: decision 9"):
        check(ring, 9, OTHER)
    with pytest.raises(SignatureError, match="by no key of the team"):
        check(ring, 9, OLD, signed_as="fade-lemon.decisions")
    with pytest.raises(
        SignatureError, match=r"decision 3 is not signed.*fade keys adopt fade-panda"
    ) as caught:
        ring.verify_entry(LOG, "decision", StoredEntry(3, "text"), is_signed, "team.pub")
    assert caught.value.tampered


def test_a_rotated_key_counts_up_to_the_head_at_which_it_was_closed() -> None:
    ring = KeyRing.parse(OLD, "team.pub").close(OLD, {LOG: HEAD}).add(NEW)
    ring = KeyRing.parse(ring.to_text(), "team.json")
    for number in (1, 2):
        check(ring, number, OLD)
    for number, log in ((3, LOG), (1, "fade-new.decisions")):
        with pytest.raises(SignatureError, match="its key was closed before it"):
            check(ring, number, OLD, log, log)
    check(ring, 3, NEW)
    assert ring.heads(LOG) == [HEAD] and ring.heads("fade-new.decisions") == []


def test_a_key_is_added_and_closed_once() -> None:
    ring = KeyRing.parse(OLD, "team.pub").close(OLD, {})
    for pem in (OLD, OTHER):
        with pytest.raises(SignatureError, match="no such active key"):
            ring.close(pem, {})
    with pytest.raises(SignatureError, match="has that key already"):
        ring.add(OLD)


def test_a_key_is_the_same_in_every_spelling() -> None:
    """Or a closed key is opened again in lines of 40 characters, and a lost one stays active in another."""
    assert REWRAPPED not in (OLD, "") and KeyRing.parse(REWRAPPED, "a.pub") == KeyRing.parse(OLD, "a.pub")
    assert KeyRing.parse(OLD + REWRAPPED, "a.pub") == KeyRing.parse(OLD, "a.pub")
    ring = KeyRing.parse(OLD, "team.pub")
    with pytest.raises(SignatureError, match="has that key already"):
        ring.add(REWRAPPED)
    (key,) = ring.close(REWRAPPED, {LOG: HEAD}).keys
    assert key.closed == {LOG: HEAD}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-rsa AAAA",
        "{",
        "{}",
        '{"schema":1,"keys":[]}',
        '{"schema":1,"keys":[{"pem":"x","closed":null}]}',
        '{"schema":1,"keys":[1]}',
        *(json.dumps({"schema": 1, "keys": [{"pem": OLD, "closed": closed}]}) for closed in NO_HEADS),
        json.dumps({"schema": 1, "keys": [{"pem": OLD, "closed": {}}, {"pem": REWRAPPED, "closed": None}]}),
        *NO_KEYS,
        NEW + NO_KEYS[0],
        f'{{"schema":1,"keys":[{{"pem":"{OLD.strip()}","closed":{{"log":"9"}}}}]}}'.replace("\n", "\\n"),
    ],
)
def test_a_file_that_is_no_keyring_is_named_and_accuses_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "team.pub").write_text(text)
    with pytest.raises(SignatureError, match=r"team\.pub") as caught:
        read_keyring(tmp_path / "team.pub")
    assert not caught.value.tampered and caught.value.action
    with pytest.raises(SignatureError, match="is not there"):
        read_keyring(tmp_path / "none.pub")
