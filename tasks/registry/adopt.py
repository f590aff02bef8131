"""Sign what was registered before the team had a key, and change the team's keys: `fade keys`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.errors import SignatureError, UnknownNameError
from fade.governance.append_log import LogEntry
from fade.governance.keyring import KeyRing, read_keyring, signed_text
from fade.governance.log_names import AUDITS, DECISIONS, HISTORY, REQUEST, log_kind, subject
from fade.governance.witness import Witness
from fade.utils.files import scratch_folder, write_whole
from tasks.registry.connection import Tracking
from tasks.registry.lineage import Traced
from tasks.registry.log_store import AUDIT_LOG, DECISION_LOG, HISTORY_LOG, LEASE_LOG, SIGNATURE, AppendLog
from tasks.registry.models import search_models, set_tags
from tasks.registry.register import bind, registered_tags
from tasks.registry.runs import Run, download_artifact
from tasks.registry.signing import FILE, is_signed, sign, sign_text
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.trust import Trust
from tasks.registry.verify import verify_version
from tasks.registry.versions import ADAPTER, load_snapshot

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

STAGE = "sign"


def adopt(tracking: Tracking, name: str, runs: Path, trust: Trust) -> dict[str, Any]:
    """Sign every entry of a model's logs that is not signed, and append a signed registration of each version
    that has none. ``name``: a model, or the log of a request.

    Everything is verified first, as far as that goes without signatures; what is signed already must be by
    the team. Raises UnknownNameError for a name of which the registry holds nothing, SignatureError without
    both keys or for a foreign signature; whatever verification raises: nothing was signed then."""
    if trust.keyring is None or not trust.private_key:
        action = "set signing.private_key and signing.public_key."
        raise SignatureError("to adopt needs both keys.", stage=STAGE, action=action)
    _require_pair(trust)
    unsigned = replace(trust, public_key="")
    snapshot = load_snapshot(tracking, f"{name}", unsigned)
    if not any(snapshot.versions_of(one) for one in (name, *_logs(name))):
        models = [model.name for model in search_models(tracking) if log_kind(model.name) in ("", REQUEST)]
        raise UnknownNameError("model", name, models, stage=STAGE)
    pending = _pending(snapshot, name, trust)
    traced: list[tuple[Traced, Path]] = []
    for version in reversed(snapshot.versions_of(name)) if log_kind(name) != REQUEST else ():
        traced.append(verify_version(snapshot, version, runs, parts=False, revoked=True))
    for log, number, text in pending:
        signature = sign_text(signed_text(log, text), Path(trust.private_key))
        set_tags(tracking, _version(snapshot, f"{log}/{number}"), {SIGNATURE: signature})
    bound = 0
    for one, adapter in traced:
        _sign_files(snapshot, one, adapter, trust)
        tags, fresh = registered_tags(one.tags), load_snapshot(tracking, name, trust)
        bound += bind(fresh, _version(snapshot, one.label), tags)
    _witness(tracking, name, trust)
    return {"name": name, "signed": len(pending), "registered": bound}


def _version(snapshot: RegistrySnapshot, label: str) -> ModelVersion:
    version = snapshot.version(label)
    assert version is not None  # it was just read
    return version


def _logs(name: str) -> Mapping[str, AppendLog[Any]]:
    if log_kind(name) == REQUEST:
        return {name: LEASE_LOG}
    return {f"{name}{HISTORY}": HISTORY_LOG, f"{name}{DECISIONS}": DECISION_LOG, f"{name}{AUDITS}": AUDIT_LOG}


def _pending(snapshot: RegistrySnapshot, name: str, trust: Trust) -> list[tuple[str, int, str]]:
    """Log, number and text of every entry without a signature; the logs are verified without them.
    Raises SignatureError for an entry that somebody else signed."""
    pending = []
    for log, kind in _logs(name).items():
        snapshot.read_log(kind, log)
        for one in kind.stored(snapshot.versions_of(log)):
            if not one.signature:
                pending.append((log, one.number, one.text))
            elif trust.verify is not None:
                trust.verify(log, kind.kind.KIND, one)
    return pending


def _require_pair(trust: Trust) -> None:
    """Raises SignatureError unless the private key is that of an active public key."""
    signature = sign_text("pair", Path(trust.private_key))
    active = [key.pem for key in trust.keyring.keys if key.closed is None] if trust.keyring else []
    if not any(is_signed("pair", signature, pem) for pem in active):
        what = f"{trust.private_key} is not the private key of an active key in {trust.public_key}."
        raise SignatureError(what, stage=STAGE, action="set signing.private_key to the team's.")


def _sign_files(snapshot: RegistrySnapshot, traced: Traced, adapter: Path, trust: Trust) -> None:
    """Sign adapter and record together, where that was not done when the version was registered."""
    with scratch_folder(STAGE) as scratch:
        if download_artifact(snapshot.tracking, traced.run_id, FILE, scratch) is not None:
            return
        record = traced.lineage.save(scratch / "lineage.json")
        bundle = sign({ADAPTER: adapter, record.name: record}, Path(trust.private_key), scratch / FILE)
        Run(snapshot.tracking, traced.run_id, "").log_file(bundle)


def _witness(tracking: Tracking, name: str, trust: Trust) -> None:
    """Record the heads of the model's logs, and the adapters that were revoked. Raises as every reader."""
    snapshot, file = load_snapshot(tracking, name, trust), trust.witness_file(tracking)
    for log, kind in _logs(name).items():
        counted, _ = snapshot.read_log(kind, log)
        file.record(log, counted)
    for sha256, label in snapshot.revoked_adapters.items():
        if label.rpartition("/")[0] == name:
            file.update(partial(Witness.revoke, sha256=sha256, label=label))


def heads(tracking: Tracking, trust: Trust) -> dict[str, str]:
    """Log -> anchor of its last entry, of every log of the store, verified. Raises as every reader."""
    snapshot, out = RegistrySnapshot.load(tracking, "", trust), {}
    for name in sorted(snapshot.versions):
        kind = next((one for log, one in _logs(subject(name)).items() if log == name), None)
        if kind is not None:
            counted: list[LogEntry] = snapshot.read_log(kind, name)[0]
            if counted:
                out[name] = counted[-1].anchor
    return out


def rotate(tracking: Tracking, trust: Trust, new: Path) -> dict[str, Any]:
    """Close every active key at the heads that the logs have now, and add the public key ``new``. Returns
    ``keyring``, the file that signing.public_key must name. Raises SignatureError, and as every reader."""
    ring = _ring(trust)
    active = [key for key in ring.keys if key.closed is None]
    closed = heads(tracking, trust) if active else {}  # after a lost key the logs may hold what it signed
    for key in active:
        ring = ring.close(key.pem, closed)
    return _write(trust, ring.add(_pem(new)))


def revoke_key(tracking: Tracking, trust: Trust, lost: Path) -> dict[str, Any]:
    """Close the public key ``lost`` at the heads that the witness has: what was signed with it since then,
    perhaps by somebody else, does not count. Returns as `rotate`. Raises SignatureError."""
    known = trust.witness_file(tracking).read().heads
    if not known:
        action = (
            "name the team's with signing.witness; without one nobody knows what the key may have signed."
        )
        raise SignatureError("the witness holds no heads.", stage=STAGE, action=action)
    return _write(trust, _ring(trust).close(_pem(lost), known))


def _ring(trust: Trust) -> KeyRing:
    if trust.keyring is None:
        action = "set signing.public_key to the team's key or keyring."
        raise SignatureError("there is no key to change.", stage=STAGE, action=action)
    return trust.keyring


def _pem(path: Path) -> str:
    keys = read_keyring(path).keys
    if len(keys) != 1:
        raise SignatureError(f"{path} holds {len(keys)} keys.", stage=STAGE, action="name a file with one.")
    return keys[0].pem


def _write(trust: Trust, ring: KeyRing) -> dict[str, Any]:
    path = Path(trust.public_key)
    path = path if path.suffix == ".json" else path.with_suffix(".keys.json")
    write_whole(path, ring.to_text(), stage=STAGE)
    active = sum(key.closed is None for key in ring.keys)
    return {"keyring": str(path), "active": active, "closed": len(ring.keys) - active}
