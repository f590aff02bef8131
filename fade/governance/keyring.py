"""The team's public keys: which of them may have signed which entry of a log. Ours.

A key that was replaced or lost is closed at the heads that the logs had then: what stands up to them remains
valid, what comes later by that key does not count."""

from __future__ import annotations

import base64
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from fade.errors import FadeError, SignatureError
from fade.governance.append_log import StoredEntry
from fade.governance.log_names import subject
from fade.governance.stored_values import parse_json
from fade.utils.hashing import canonical
from fade.utils.reading import TEXT, read_text

STAGE = "sign"
_BEGIN, _END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
_PEM = re.compile(rf"{_BEGIN}\s.*?{_END}", re.DOTALL)
_P256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
"""DER of a public key on the curve P-256 up to its coordinates, of 32 bytes each (RFC 5480)."""
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
"""The curve: y^2 = x^3 - 3 x + B modulo P (FIPS 186-4)."""
IsSigned = Callable[[str, str, str], bool]
"""(text, signature, PEM of a public key) -> whether that key's owner signed the text."""


@dataclass(frozen=True)
class TeamKey:
    """A public key. ``closed``: log -> anchor of the last entry that it may have signed; None: active."""

    pem: str
    closed: Mapping[str, str] | None = None

    def may_sign(self, log: str, number: int) -> bool:
        """Whether a signature by this key counts on the entry ``number`` of a log."""
        if self.closed is None:
            return True
        return number <= int(self.closed.get(log, "0:").partition(":")[0])


@dataclass(frozen=True)
class KeyRing:
    """The keys, in the order in which they were added."""

    keys: tuple[TeamKey, ...]

    @classmethod
    def parse(cls, text: str, where: str) -> Self:
        """A keyring as JSON (`to_text`), or PEM with one public key or several. Raises SignatureError, which
        names the file ``where``."""
        action = "set signing.public_key to the team's key or keyring (`fade keys`)."
        if not text.lstrip().startswith("{"):
            try:
                pems = dict.fromkeys(_normal(pem) for pem in _PEM.findall(text))
            except ValueError as error:
                raise SignatureError(f"{where}: {error}.", stage=STAGE, action=action) from None
            if not pems:
                raise SignatureError(f"{where} holds no public key.", stage=STAGE, action=action)
            return cls(tuple(TeamKey(pem) for pem in pems))
        try:
            content = parse_json(text, where, dict)
            if content.get("schema") != 1 or not content.get("keys"):
                raise ValueError("another schema")
            keys = tuple(_key(one) for one in content["keys"])
            if len({key.pem for key in keys}) != len(keys):
                raise ValueError("a key appears twice")
            return cls(keys)
        except (FadeError, ValueError, TypeError, KeyError, AttributeError) as error:
            reason = error.what if isinstance(error, FadeError) else f"{error}."
            raise SignatureError(f"{where} is no keyring: {reason}", stage=STAGE, action=action) from None

    def to_text(self) -> str:
        """As `parse` reads it."""
        keys = [
            {"pem": key.pem, "closed": None if key.closed is None else dict(key.closed)} for key in self.keys
        ]
        return canonical({"schema": 1, "keys": keys}) + "\n"

    def close(self, pem: str, heads: Mapping[str, str]) -> KeyRing:
        """The keyring with one key closed at ``heads``. Raises SignatureError for no active one."""
        if not any(key.pem == _normal(pem) and key.closed is None for key in self.keys):
            action = "name the file of an active public key of the team."
            raise SignatureError("the keyring has no such active key.", stage=STAGE, action=action)
        closed = (replace(key, closed=dict(heads)) if key.pem == _normal(pem) else key for key in self.keys)
        return KeyRing(tuple(closed))

    def add(self, pem: str) -> KeyRing:
        """The keyring with one more active key. Raises SignatureError when it has the key already."""
        if any(key.pem == _normal(pem) for key in self.keys):
            action = "make another pair with `fade keys NAME`; a closed key is not opened again."
            raise SignatureError("the keyring has that key already.", stage=STAGE, action=action)
        return KeyRing((*self.keys, TeamKey(_normal(pem))))

    def heads(self, log: str) -> list[str]:
        """The heads of a log at which keys were closed: they must count for ever."""
        return [anchor for key in self.keys if (anchor := (key.closed or {}).get(log))]

    def verify_entry(self, log: str, kind: str, stored: StoredEntry, is_signed: IsSigned, where: str) -> None:
        """The check that `fade.governance.append_log.read_log` makes of every entry. Raises SignatureError
        for one that is not signed by a key which may have signed it. where: the file of the keyring."""
        name = f"{log}: {kind} {stored.number}"
        if not stored.signature:
            action = f"if it is the team's, `fade keys adopt {subject(log)}`; else find out who wrote it."
            raise SignatureError(f"{name} is not signed.", stage=STAGE, action=action, tampered=True)
        text = signed_text(log, stored.text)
        signers = [key for key in self.keys if is_signed(text, stored.signature, key.pem)]
        if not any(key.may_sign(log, stored.number) for key in signers):
            why = "its key was closed before it" if signers else "its signature is by no key of the team"
            action = "trust nothing in this log; find out who wrote it, or whether this is the team's key."
            what = f"{where} does not verify {name}: {why}."
            raise SignatureError(what, stage=STAGE, action=action, tampered=True)


def signed_text(log: str, text: str) -> str:
    """What is signed of an entry. With the log's name: an entry that is copied into another log does not
    verify there."""
    return f"{log}\n{text}"


def _normal(pem: str) -> str:
    """The one spelling of a public key: its DER in lines of 64 characters. Raises ValueError for anything but
    an uncompressed point of the curve P-256, which is what `fade keys` makes."""
    body = "".join(pem.partition(_BEGIN)[2].partition(_END)[0].split())
    der = base64.b64decode(body, validate=True)
    x, y = (int.from_bytes(der[at : at + 32]) for at in (27, 59))
    on_curve = max(x, y) < _P and (y * y - x**3 + 3 * x - _B) % _P == 0
    if not der.startswith(_P256) or len(der) != 91 or not on_curve:
        raise ValueError("a public key is of another kind than `fade keys` makes")
    lines = textwrap.wrap(base64.b64encode(der).decode("ascii"), 64)
    return "\n".join((_BEGIN, *lines, _END)) + "\n"


def _key(content: Mapping[str, Any]) -> TeamKey:
    pem, closed = content["pem"], content["closed"]
    if not _PEM.fullmatch(pem.strip()):
        raise ValueError("a key is no PEM")
    if closed is not None and not isinstance(closed, dict):
        raise ValueError("`closed` is neither null nor a mapping of heads")
    if not all(re.fullmatch(r"\d{1,18}:[0-9a-f]{64}", anchor) for anchor in (closed or {}).values()):
        raise ValueError("a head is no NUMBER:SHA256")
    return TeamKey(_normal(pem), closed)


def read_keyring(path: Path) -> KeyRing:
    """The keyring of a file. Raises SignatureError."""
    action = "set signing.public_key to the team's."
    try:
        text = read_text(path, TEXT)
    except FileNotFoundError:
        raise SignatureError(f"{path} is not there.", stage=STAGE, action=action) from None
    except (OSError, ValueError) as error:
        raise SignatureError(f"{path} cannot be read: {error}.", stage=STAGE, action=action) from None
    return KeyRing.parse(text, str(path))
