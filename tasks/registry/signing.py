"""Signatures by a key pair of the team, offline: no certificate, no public log. Files are signed together by
model-signing, the text of a log's entry by ECDSA with SHA-256."""

from __future__ import annotations

import base64
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from fade.errors import SignatureError, StorageError, UsageError
from fade.governance.keyring import read_keyring
from fade.utils.files import make_folder, scratch_folder, storage_error, write_whole
from fade.utils.reading import SETTINGS, check_regular, read_bytes

STAGE = "sign"
FILE = "signature.json"
PASSWORD = "FADE_SIGNING_PASSWORD"
"""Environment variable with the private key's password, where it has one."""
_KEY_NAME = re.compile(r"\w(?:[\w. -]{0,98}\w)?")
_PRIVATE = (
    "set signing.private_key, or make one with `fade keys`.",
    f"check {PASSWORD}, and that it is a private key as `fade keys` makes it.",
)
_PUBLIC = (
    "set signing.public_key to the team's.",
    "do not use the version; find out who changed it, or whether this is the team's key.",
)
"""What to do when the key is missing, and when it does not fit."""
LONGEST_PASSWORD = 1023
"""Bytes that OpenSSL takes."""


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """A new key pair on the curve P-256, ``NAME.pem`` (private, readable by its owner alone, locked with the
    password in FADE_SIGNING_PASSWORD, if any) and ``NAME.pub``; no file is replaced. Raises UsageError for a
    name that is no file's, SignatureError, StorageError."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if not _KEY_NAME.fullmatch(name):
        action = "write letters, digits, blanks and . _ - in it; --folder names the place."
        raise UsageError(f"{name[:100]!r} is no name of a key.", stage=STAGE, action=action)
    password = _password()
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    key, pem = ec.generate_private_key(ec.SECP256R1()), serialization.Encoding.PEM
    make_folder(folder)
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    for path in (private, public):
        if path.exists():
            action = "name another; what it has signed could not be verified."
            raise SignatureError(f"{path} exists.", stage=STAGE, action=action)
    _create(private, key.private_bytes(pem, serialization.PrivateFormat.PKCS8, lock), 0o600)
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    _create(public, key.public_key().public_bytes(pem, info), 0o644)
    return private, public


def sign(files: Mapping[str, Path], private_key: Path, out: Path) -> Path:
    """Sign the named files together; ``out``: the signature, a Sigstore bundle. Raises SignatureError."""
    from model_signing import signing

    with _key_errors(private_key, "cannot sign", *_PRIVATE), _folder(files) as folder:
        password: Any = _password()  # the library's annotation says str, and its code needs bytes
        check_regular(private_key, SETTINGS)
        signer = signing.Config().use_elliptic_key_signer(private_key=private_key, password=password)
        part = folder.with_name("part.json")
        signer.sign(folder, part)
        body = part.read_bytes()
    make_folder(out.parent)
    return write_whole(out, body, stage=STAGE)


def verify(
    files: Mapping[str, Path], signature: Path, public_key: Path, keys: Sequence[str] | None = None
) -> None:
    """Raises SignatureError, naming what differs, unless the owner of a key of ``public_key`` signed just
    these files. keys: PEM of those keys of the file that may have signed them; None: all."""
    if keys is None:
        keys = [key.pem for key in read_keyring(public_key).keys]
    failure: SignatureError | None = None
    for pem in keys:
        _public_key(pem)  # a key that cannot be read is no finding about the files
        try:
            return _verify(files, signature, public_key, pem)
        except SignatureError as error:
            failure = failure if failure and "other bytes" in failure.what else error
    what = f"{public_key} does not verify: the keys that may have signed it are closed."
    raise failure or SignatureError(what, stage=STAGE, action=_PUBLIC[1], tampered=True)


def _verify(files: Mapping[str, Path], signature: Path, public_key: Path, pem: str) -> None:
    from model_signing import verifying

    with _folder(files) as folder:
        key = folder.with_name("key.pub")
        key.write_text(pem, encoding="ascii")
        with _key_errors(public_key, "does not verify", *_PUBLIC, tampered=True):
            verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, signature)


def sign_text(text: str, private_key: Path) -> str:
    """The signature over a text: ECDSA with SHA-256, DER in base64. Raises SignatureError."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    with _key_errors(private_key, "cannot sign", *_PRIVATE):
        key: Any = serialization.load_pem_private_key(read_bytes(private_key, SETTINGS), _password())
        return base64.b64encode(key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))).decode("ascii")


def is_signed(text: str, signature: str, pem: str) -> bool:
    """Whether the owner of the public key ``pem`` signed the text. Raises SignatureError for no such key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = _public_key(pem)
    try:
        key.verify(base64.b64decode(signature, validate=True), text.encode(), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=64)
def _public_key(pem: str) -> Any:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_public_key(pem.encode())
    except Exception as error:  # ValueError, UnsupportedAlgorithm and others
        raise SignatureError(
            f"a public key cannot be read: {error}.", stage=STAGE, action=_PUBLIC[0]
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        what = "a public key is of another kind than `fade keys` makes."
        raise SignatureError(what, stage=STAGE, action=_PUBLIC[0])
    return key


def _password() -> bytes | None:
    password = os.fsencode(os.environ.get(PASSWORD, ""))
    if len(password) > LONGEST_PASSWORD:
        what = f"{PASSWORD} has more than {LONGEST_PASSWORD} bytes."
        raise SignatureError(what, stage=STAGE, action="set it to the key's password.")
    return password or None


@contextmanager
def _key_errors(
    key: Path, failure: str, missing: str, action: str, *, tampered: bool = False
) -> Iterator[None]:
    """The libraries' exceptions as SignatureError."""
    if not key.is_file():
        raise SignatureError(f"{key} is not there.", stage=STAGE, action=missing)
    try:
        yield
    except OSError as error:
        raise StorageError(f"{error.filename}: {error.strerror}.", stage=STAGE) from error
    # the libraries have no common base: ValueError, KeyError, TypeError, InvalidSignature and others
    except Exception as error:
        # in any order, each with two digests of bytes
        changed = sorted(re.findall(r"Hash mismatch for \W*([\w.-]+)", str(error)))
        reason = f"other bytes in {', '.join(changed)}." if changed else " ".join(str(error).split())[:200]
        what = f"{key} {failure}: {reason or type(error).__name__}"
        raise SignatureError(what, stage=STAGE, action=action, tampered=tampered) from error


@contextmanager
def _folder(files: Mapping[str, Path]) -> Iterator[Path]:
    """A folder that holds the files under their names and nothing else: what the library signs."""
    with scratch_folder(STAGE) as scratch:
        folder = scratch / "signed"
        try:
            folder.mkdir()
            for name, path in files.items():
                shutil.copyfile(path, folder / name)
        except OSError as error:
            raise StorageError(f"{error.filename}: {error.strerror}.", stage=STAGE) from error
        yield folder


def _create(path: Path, body: bytes, mode: int) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(body)
    except OSError as error:
        raise storage_error(error, path, STAGE, "name another folder.") from error
