"""The log's signing keys: Ed25519, created at first use with mode 0600; a rotation is signed by the old key.

A key's id is the first 16 hexadecimal digits of the SHA-256 of its public bytes. The folder contains the active private
key (``signing.pem``), every public key (``ID.pub.pem``) and one statement per rotation (``ID.rotation.json``), in which
the old key names the new one. So someone who trusts one public key can trust all later ones. No key is ever logged.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cdckit.errors import SatelliteError
from consumers.storage.files import write_atomically

PRIVATE_KEY_FILE = "signing.pem"
_RAW = serialization.Encoding.Raw, serialization.PublicFormat.Raw
_PEM = serialization.Encoding.PEM


class Rotation(msgspec.Struct, frozen=True):
    """States that the key `old` is followed by `new` (public bytes, base64); signed with the key `old`."""

    old: str
    new: str
    time: str
    signature: str


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The active key."""

    private: Ed25519PrivateKey

    @property
    def id(self) -> str:
        """The key's id."""
        return key_id(self.private.public_key())

    def sign(self, data: bytes) -> str:
        """The signature of the data, in base64."""
        return base64.b64encode(self.private.sign(data)).decode()


def key_id(public: Ed25519PublicKey) -> str:
    """The id of a public key: sixteen hexadecimal digits."""
    return hashlib.sha256(public.public_bytes(*_RAW)).hexdigest()[:16]


def signing_key(folder: Path) -> SigningKey:
    """The private key in the folder; created if there is none. Raises SatelliteError when it cannot be read.

    When several processes call it at once, one of them creates the key and all use it.
    """
    path = folder / PRIVATE_KEY_FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_private_key(path, Ed25519PrivateKey.generate(), replace=False)
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise SatelliteError(
            f"the audit log's key {path} cannot be read", "restore it from a copy, or rotate: cdcctl audit key rotate"
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise SatelliteError(f"{path} is not an Ed25519 key", "fix [consumers.audit] keys in cdc.toml")
    _store_public_key(folder, private.public_key())
    return SigningKey(private)


def rotate_signing_key(folder: Path) -> tuple[str, str]:
    """Replace the private key by a new one, signed by the old key. Returns the ids of the old and the new key."""
    old, new = signing_key(folder), Ed25519PrivateKey.generate()
    raw = new.public_key().public_bytes(*_RAW)
    statement = Rotation(
        old.id, base64.b64encode(raw).decode(), datetime.now(UTC).isoformat(timespec="seconds"),
        old.sign(_ROTATION + raw),
    )  # fmt: skip
    _store_public_key(folder, new.public_key())
    write_atomically(folder / f"{key_id(new.public_key())}.rotation.json", msgspec.json.encode(statement), 0o644)
    _write_private_key(folder / PRIVATE_KEY_FILE, new, replace=True)
    return old.id, key_id(new.public_key())


def read_rotations(folder: Path) -> list[Rotation]:
    """The rotation statements in the folder, oldest first."""
    found = [msgspec.json.decode(path.read_bytes(), type=Rotation) for path in sorted(folder.glob("*.rotation.json"))]
    return sorted(found, key=lambda rotation: rotation.time)


def public_keys(folder: Path) -> dict[str, Ed25519PublicKey]:
    """All public keys in the folder, by id."""
    return {key_id(key): key for key in map(read_public, sorted(folder.glob("*.pub.pem")))}


def read_public(path: Path) -> Ed25519PublicKey:
    """Read a public key from a PEM file. Raises SatelliteError."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SatelliteError(f"{path} is not a public key: {error}", "use an ID.pub.pem of the log's keys") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SatelliteError(f"{path} is not an Ed25519 public key", "use an ID.pub.pem of the log's keys")
    return key


def trusted_keys(root: Ed25519PublicKey, statements: list[Rotation]) -> Mapping[str, Ed25519PublicKey]:
    """The key `root` and all keys that follow it by rotation statements with a valid signature, by id."""
    known = {key_id(root): root}
    for statement in statements:
        old, raw = known.get(statement.old), base64.b64decode(statement.new)
        if old is not None and is_valid_signature(old, statement.signature, _ROTATION + raw):
            new = Ed25519PublicKey.from_public_bytes(raw)
            known[key_id(new)] = new
    return known


def is_valid_signature(key: Ed25519PublicKey, signature: str, data: bytes) -> bool:
    """Whether the signature (base64) of the data was made with this key."""
    try:
        key.verify(base64.b64decode(signature), data)
    except (InvalidSignature, ValueError):
        return False
    return True


_ROTATION = b"cdc.audit.rotation:"


def _write_private_key(path: Path, key: Ed25519PrivateKey, *, replace: bool) -> None:
    pem = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    write_atomically(temporary, pem, 0o600)
    try:
        temporary.replace(path) if replace else os.link(temporary, path)
    except FileExistsError:
        pass  # another process has created it first
    finally:
        temporary.unlink(missing_ok=True)


def _store_public_key(folder: Path, key: Ed25519PublicKey) -> None:
    path = folder / f"{key_id(key)}.pub.pem"
    if not path.exists():
        write_atomically(path, key.public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo), 0o644)
