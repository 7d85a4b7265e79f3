"""The log's signing keys: Ed25519, made on first use with mode 0600, rotated by the old key's own signature.

A key's id is the first 16 hexadecimal digits of the SHA-256 of its public bytes. The folder holds the private key of
now (``signing.pem``), every public key (``ID.pub.pem``) and a statement for each rotation (``ID.rotation.json``): the
old key says which is the new one, so that whoever trusts one public key can follow to all later ones. Nothing here
logs a key.
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

PRIVATE = "signing.pem"
_RAW = serialization.Encoding.Raw, serialization.PublicFormat.Raw
_PEM = serialization.Encoding.PEM


class Rotation(msgspec.Struct, frozen=True):
    """`old` vouches for `new` (public bytes, base64); `signature` is over ``cdc.audit.rotation:`` and those bytes."""

    old: str
    new: str
    time: str
    signature: str


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key of now."""

    private: Ed25519PrivateKey

    @property
    def id(self) -> str:
        """The key's id."""
        return key_id(self.private.public_key())

    def sign(self, data: bytes) -> str:
        """The signature in base64."""
        return base64.b64encode(self.private.sign(data)).decode()


def key_id(public: Ed25519PublicKey) -> str:
    """Sixteen hexadecimal digits."""
    return hashlib.sha256(public.public_bytes(*_RAW)).hexdigest()[:16]


def signing_key(folder: Path) -> SigningKey:
    """The private key in the folder, made when there is none. Raises SatelliteError when it cannot be read.

    Several processes may ask at once: one of them makes it.
    """
    path = folder / PRIVATE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _publish(path, Ed25519PrivateKey.generate(), replace=False)
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise SatelliteError(
            f"the audit log's key {path} cannot be read", "restore it from a copy, or rotate: cdcctl audit key rotate"
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise SatelliteError(f"{path} is no Ed25519 key", "mend [consumers.audit] keys")
    _remember_public(folder, private.public_key())
    return SigningKey(private)


def rotate(folder: Path) -> tuple[str, str]:
    """Make a new key, vouched for by the old one; the ids of both. The old private key is gone then."""
    old, new = signing_key(folder), Ed25519PrivateKey.generate()
    raw = new.public_key().public_bytes(*_RAW)
    statement = Rotation(
        old.id, base64.b64encode(raw).decode(), datetime.now(UTC).isoformat(timespec="seconds"),
        old.sign(_ROTATION + raw),
    )  # fmt: skip
    _remember_public(folder, new.public_key())
    write_atomically(folder / f"{key_id(new.public_key())}.rotation.json", msgspec.json.encode(statement), 0o644)
    _publish(folder / PRIVATE, new, replace=True)
    return old.id, key_id(new.public_key())


def rotations(folder: Path) -> list[Rotation]:
    """The statements in the folder, oldest first."""
    found = [msgspec.json.decode(path.read_bytes(), type=Rotation) for path in sorted(folder.glob("*.rotation.json"))]
    return sorted(found, key=lambda one: one.time)


def public_keys(folder: Path) -> dict[str, Ed25519PublicKey]:
    """Every public key in the folder, by id."""
    return {key_id(key): key for key in map(read_public, sorted(folder.glob("*.pub.pem")))}


def read_public(path: Path) -> Ed25519PublicKey:
    """A public key's PEM file. Raises SatelliteError."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SatelliteError(f"{path} is no public key: {error}", "use an ID.pub.pem of the log's keys") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SatelliteError(f"{path} is no Ed25519 public key", "use an ID.pub.pem of the log's keys")
    return key


def trusted(root: Ed25519PublicKey, statements: list[Rotation]) -> Mapping[str, Ed25519PublicKey]:
    """The keys that `root` vouches for, itself included, by way of the statements whose signatures hold."""
    known = {key_id(root): root}
    for statement in statements:
        old, raw = known.get(statement.old), base64.b64decode(statement.new)
        if old is not None and holds(old, statement.signature, _ROTATION + raw):
            new = Ed25519PublicKey.from_public_bytes(raw)
            known[key_id(new)] = new
    return known


def holds(key: Ed25519PublicKey, signature: str, data: bytes) -> bool:
    """Whether the signature (base64) is the key's over the data."""
    try:
        key.verify(base64.b64decode(signature), data)
    except (InvalidSignature, ValueError):
        return False
    return True


_ROTATION = b"cdc.audit.rotation:"


def _publish(path: Path, key: Ed25519PrivateKey, *, replace: bool) -> None:
    pem = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    write_atomically(fresh, pem, 0o600)
    try:
        fresh.replace(path) if replace else os.link(fresh, path)
    except FileExistsError:
        pass  # another process made it first
    finally:
        fresh.unlink(missing_ok=True)


def _remember_public(folder: Path, key: Ed25519PublicKey) -> None:
    path = folder / f"{key_id(key)}.pub.pem"
    if not path.exists():
        write_atomically(path, key.public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo), 0o644)
