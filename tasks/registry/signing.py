"""Signatures over a version's adapter and record, by a key pair of the team (model-signing, offline: no
certificate, no log)."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fade.errors import SignatureError, StorageError
from fade.utils.files import make_folder, write_whole

STAGE = "sign"
FILE = "signature.json"
PASSWORD = "FADE_SIGNING_PASSWORD"
"""Environment variable with the private key's password, where it has one."""


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """A new key pair on the curve P-256, ``NAME.pem`` (private, readable by its owner alone) and
    ``NAME.pub``; no file is replaced.

    The private key is locked with the password in FADE_SIGNING_PASSWORD, if it is set. Raises SignatureError,
    StorageError."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    password = os.environ.get(PASSWORD, "").encode()
    lock = form.BestAvailableEncryption(password) if password else form.NoEncryption()
    key = ec.generate_private_key(ec.SECP256R1())
    make_folder(folder)
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    for path in (private, public):
        if path.exists():
            raise SignatureError(
                f"{path} exists.",
                stage=STAGE,
                action="name another; what it has signed could not be verified.",
            )
    _new(private, key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, lock), 0o600)
    _new(
        public,
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo),
        0o644,
    )
    return private, public


def sign(files: Mapping[str, Path], private_key: Path, out: Path) -> Path:
    """Sign the named files together; the signature (a Sigstore bundle, JSON) is written to ``out``. Raises
    SignatureError."""
    from model_signing import signing

    if not private_key.is_file():
        raise SignatureError(
            f"{private_key} is not there.",
            stage=STAGE,
            action="set signing.private_key, or make one with `fade keys`.",
        )
    wrong = f"check {PASSWORD}, and that it is a private key as `fade keys` makes it."
    with _folder(files) as folder, _said(f"{private_key} cannot sign", wrong):
        password: Any = (
            os.environ.get(PASSWORD, "").encode() or None
        )  # the library says text, and hands it to what wants bytes
        signer = signing.Config().use_elliptic_key_signer(private_key=private_key, password=password)
        part = folder.with_name("part.json")
        signer.sign(folder, part)
        body = part.read_bytes()
    make_folder(out.parent)
    return write_whole(out, body, stage=STAGE)


def verify(files: Mapping[str, Path], signature: Path, public_key: Path) -> None:
    """Raises SignatureError unless just these files, with these bytes, were signed by the public key's owner;
    it names what differs."""
    from model_signing import verifying

    if not public_key.is_file():
        raise SignatureError(
            f"{public_key} is not there.", stage=STAGE, action="set signing.public_key to the team's."
        )
    changed = "do not use the version; find out who changed it, or whether this is the team's key."
    with _folder(files) as folder, _said(f"{public_key} does not verify", changed):
        verifying.Config().use_elliptic_key_verifier(public_key=public_key).verify(folder, signature)


@contextmanager
def _said(what: str, action: str) -> Iterator[None]:
    """Whatever the library raises, in our words."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{error.filename}: {error.strerror}.", stage=STAGE) from error
    # the library has no errors of its own: ValueError, KeyError, TypeError and those of what it calls
    except Exception as error:
        other = sorted(
            re.findall(r"Hash mismatch for \W*([\w.-]+)", str(error))
        )  # in any order, each with two digests of bytes
        reason = f"other bytes in {', '.join(other)}." if other else " ".join(str(error).split())[:200]
        raise SignatureError(
            f"{what}: {reason or type(error).__name__}", stage=STAGE, action=action
        ) from error


@contextmanager
def _folder(files: Mapping[str, Path]) -> Iterator[Path]:
    """A folder that holds the files under their names and nothing else: what the library signs."""
    with tempfile.TemporaryDirectory(prefix="fade-sign-") as scratch:
        folder = Path(scratch) / "signed"
        folder.mkdir()
        for name, path in files.items():
            shutil.copyfile(path, folder / name)
        yield folder


def _new(path: Path, body: bytes, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}.", stage=STAGE, action="name another folder."
        ) from error
    with os.fdopen(handle, "wb") as stream:
        stream.write(body)
