"""What the registry is verified against and signed by: the team's keys and the witness. Nothing of it lies in
the registry's store."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

from fade.config import SigningConfig
from fade.errors import SignatureError, StorageError
from fade.governance.append_log import LogEntry, Verify
from fade.governance.keyring import KeyRing, read_keyring, signed_text
from fade.governance.log_names import AUDITS
from fade.governance.witness import STAGE, Witness
from fade.utils.files import make_folder, read_json, write_whole
from fade.utils.locks import lock_directory
from fade.utils.reading import RECORD, read_text
from tasks.registry.connection import Tracking
from tasks.registry.signing import is_signed, sign_text

WITNESS = "registry.witness.json"
"""Default file, in the runs folder; of a store that does not lie there, with a hash of its address."""
ANCHORS = Path("audit", "marks.json")
"""Under the runs folder: the last audits, as versions before the witness recorded them."""
LOCK_SECONDS = 60.0


@dataclass(frozen=True)
class Trust:
    """Files that ``signing`` in params.yaml names."""

    public_key: str = ""
    """Empty: no signature is verified."""
    private_key: str = ""
    """Empty: nothing is signed."""
    witness: str = ""
    """Empty: the machine's own."""

    @classmethod
    def of(cls, signing: SigningConfig, root: Path = Path()) -> Self:
        """root: the folder of params.yaml."""
        names = (signing.public_key, signing.private_key, signing.witness)
        return cls(*(str(root / name) if name else "" for name in names))

    @cached_property
    def keyring(self) -> KeyRing | None:
        """The team's keys; None when no signature is verified. Raises SignatureError."""
        return read_keyring(Path(self.public_key)) if self.public_key else None

    @property
    def verify(self) -> Verify | None:
        """The check of an entry's signature."""
        if self.keyring is None:
            return None
        return partial(self.keyring.verify_entry, is_signed=is_signed, where=self.public_key)

    def anchors(self, log: str, witness: Witness) -> list[tuple[str, str]]:
        """(who remembers, the anchor of an entry of the log that must count)."""
        closed = self.keyring.heads(log) if self.keyring else []
        head = witness.heads.get(log, "")
        return [*((self.public_key, anchor) for anchor in closed), (self.witness or "this machine", head)]

    def require_signer(self, what: str) -> None:
        """Raises SignatureError when the team's key is set and ``what`` could not be signed."""
        if self.public_key and not self.private_key:
            action = "set signing.private_key: with signing.public_key set, what is not signed is refused."
            raise SignatureError(f"{what} would not be signed.", stage="sign", action=action)

    def check_files(self, what: str) -> None:
        """What signs and verifies ``what`` is there and can be read: known before a run, not at its end.
        Raises SignatureError, ConfigError, StorageError."""
        if self.keyring is not None:
            self.require_signer(what)
        if self.witness:
            WitnessFile(Path(self.witness), self.witness).read()

    def sign(self, log: str, text: str) -> str:
        """The signature of an entry's text; empty without a private key. Raises SignatureError."""
        return sign_text(signed_text(log, text), Path(self.private_key)) if self.private_key else ""

    def witness_file(self, tracking: Tracking) -> WitnessFile:
        """The witness of a store."""
        if self.witness:
            return WitnessFile(Path(self.witness), self.witness)
        runs = tracking.runs
        name, embedded = WITNESS, f"{(runs.absolute() / 'mlflow.db').as_posix()}"
        if not tracking.uri.endswith(embedded):
            digest = hashlib.sha256(tracking.address.encode()).hexdigest()[:12]
            name = f"registry.witness.{digest}.json"
        return WitnessFile(runs / name, "this machine", runs / ANCHORS, tracking.address)


@dataclass(frozen=True)
class WitnessFile:
    """The file that holds a `Witness`."""

    path: Path
    where: str
    """For sentences."""
    earlier: Path | None = None
    """The file of audits' anchors, as versions before the witness wrote it."""
    address: str = ""
    """Of the store, as that file names it."""

    def read(self) -> Witness:
        """The witness; empty when there is no file. Raises ConfigError, StorageError."""
        try:
            witness = Witness.parse(read_text(self.path, RECORD), str(self.path))
        except FileNotFoundError:
            witness = Witness()
        except UnicodeDecodeError:
            witness = Witness.parse("", str(self.path))
        except OSError as error:
            raise StorageError(f"{self.path} cannot be read: {error.strerror}.", stage=STAGE) from error
        return Witness({**self._earlier(), **witness.heads}, witness.revoked)

    def _earlier(self) -> dict[str, str]:
        content: Any = read_json(self.earlier) if self.earlier else None
        content = content if isinstance(content, dict) else {}
        return {
            f"{name}{AUDITS}": str(anchor)
            for key, anchor in content.items()
            if (name := str(key).removeprefix(f"{self.address} ")) != key
            and re.fullmatch(r"\d{1,18}:[0-9a-f]{64}", str(anchor))
        }

    def check_writable(self) -> None:
        """Raises StorageError when it cannot be updated: before something is appended that it must record."""
        try:
            make_folder(self.path.parent)
        except StorageError as error:
            action = "make the folder writable, or name another file with signing.witness."
            what = f"the witness {error.what}"
            raise StorageError(what, stage=STAGE, action=action) from error

    def update(self, change: Callable[[Witness], Witness]) -> None:
        """Read, change and write as a whole, under a lock. Raises BusyError, ConfigError, StorageError, and
        whatever ``change`` raises."""
        busy = f"{self.path} is being written"
        make_folder(self.path.parent)
        with lock_directory(self.path.parent, busy, STAGE, patience=LOCK_SECONDS):
            before = self.read()
            after = change(before)
            if after != before or not self.path.exists():
                write_whole(self.path, after.to_text(), stage=STAGE, sync=True)

    def record(self, log: str, counted: Sequence[LogEntry], revoked: str = "", label: str = "") -> None:
        """Record the log's last entry, and the sha256 of an adapter that was revoked as ``label``. Raises as
        `update`."""
        witnessed = list(counted)
        while witnessed and not witnessed[-1].witnessed:
            witnessed.pop()
        self.update(lambda one: one.advance(log, witnessed, self.where).revoke(revoked, label))
