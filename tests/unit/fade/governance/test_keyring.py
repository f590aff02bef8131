"""The team's keys: which signature counts on which entry; rotation, a lost key, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.errors import SignatureError
from fade.governance.append_log import StoredEntry
from fade.governance.keyring import KeyRing, read_keyring, signed_text, subject

OLD, NEW, OTHER = (
    f"-----BEGIN PUBLIC KEY-----\n{name}\n-----END PUBLIC KEY-----\n" for name in ("a", "b", "c")
)
LOG = "fade-panda.decisions"
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


def test_a_log_is_about_a_model_or_is_a_requests() -> None:
    assert [subject(f"fade-panda{end}") for end in (".decisions", ".audits", ".history")] == [
        "fade-panda"
    ] * 3
    assert subject("fade.request.p1.history-2") == "fade.request.p1.history-2"
