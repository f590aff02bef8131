"""The witness: heads of logs and revoked adapters, recorded outside of the registry. Ours.

Whoever writes the registry can rewrite a log, or set it back to an older state; the witness, a file of the
team or of this machine, shows it. Entries after the recorded head are fine."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from fade.errors import ConfigError, FadeError
from fade.governance.append_log import E, verify_anchor
from fade.governance.stored_values import parse_json

STAGE = "witness"
_ANCHOR, _SHA256 = re.compile(r"\d{1,18}:[0-9a-f]{64}"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Witness:
    """The content of the file."""

    heads: Mapping[str, str] = field(default_factory=dict)
    """Log -> anchor, ``NUMBER:SHA256``, of its last entry."""
    revoked: Mapping[str, str] = field(default_factory=dict)
    """sha256 of an adapter -> the version, ``NAME/VERSION``, as which it was revoked."""

    @classmethod
    def parse(cls, text: str, where: str) -> Self:
        """Raises ConfigError, which names the file ``where``: without it nothing is believed."""
        try:
            content = parse_json(text, where, dict)
            heads, revoked = content["heads"], content["revoked"]
            if content["schema"] != 1:
                raise ValueError("another schema")
            if not all(_ANCHOR.fullmatch(anchor) for anchor in heads.values()):
                raise ValueError("a head is no NUMBER:SHA256")
            if not all(_SHA256.fullmatch(key) and isinstance(label, str) for key, label in revoked.items()):
                raise ValueError("a revocation is no sha256 with a version")
        except (FadeError, ValueError, TypeError, KeyError, AttributeError) as error:
            reason = error.what if isinstance(error, FadeError) else f"{where} cannot be read: {error}."
            action = "restore it from the repository's history; after a merge, the higher head of each log."
            raise ConfigError(reason, stage=STAGE, action=action) from None
        return cls(heads, revoked)

    def to_text(self) -> str:
        """As `parse` reads it: sorted, an entry a line."""
        content = {"schema": 1, "heads": dict(self.heads), "revoked": dict(self.revoked)}
        return json.dumps(content, indent=1, sort_keys=True) + "\n"

    def advance(self, log: str, counted: Sequence[E], where: str) -> Witness:
        """With the last entry of ``counted`` as the log's head; never back.

        Raises the kind's ERROR when the recorded head does not count. A head behind all of ``counted`` is one
        that another process has recorded since they were read; it stays."""
        if not counted:
            return self
        if known := self.heads.get(log):
            if int(known.partition(":")[0]) > counted[-1].number:
                return self
            verify_anchor(type(counted[-1]), counted, known, log, where)
        return replace(self, heads={**self.heads, log: counted[-1].anchor})

    def revoke(self, sha256: str, label: str) -> Witness:
        """With one more revoked adapter; the first label stays."""
        return replace(self, revoked={sha256: label, **self.revoked}) if sha256 else self
