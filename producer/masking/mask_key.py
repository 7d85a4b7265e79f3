"""The key of the masks' hashes: a file that is created on first use, or a secret; a tag of the stream pins it."""

from __future__ import annotations

import hmac
import logging
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from cdckit.errors import UsageError
from cdckit.runtime.settings import Settings
from producer.kinesis.stream import Stream
from producer.masking.masker import Masker
from producer.masking.rules import Mask, parse_masks

logger = logging.getLogger(__name__)

FILE_NAME = "mask.key"
_SECRET, _ARN = "secretsmanager:", "arn:aws"
_MIN_KEY_BYTES = 16


def open_masker(settings: Settings) -> Masker:
    """Build the masker that the settings ask for, with its key when a mask hashes. Raises UsageError."""
    masks = parse_masks(settings.mask)
    return Masker(masks, _key(settings) if _hashes(masks) else b"")


def pin_key(masker: Masker, stream: Stream, source: str) -> None:
    """Compare the key with the one that made the stream's hashes; the first run records the key's fingerprint.

    Another key changes every hash, and no row would be found again. Raises UsageError, StreamError.
    """
    if not _hashes(masker.masks):
        return
    fingerprint = bytes(masker.mask_value("hash", b'"cdc.mask.fingerprint"'))[1:17].decode()
    name = f"cdc.mask.{source}"
    recorded = stream.tag(name)
    if recorded is None:
        stream.set_tag(name, fingerprint)
    elif not hmac.compare_digest(recorded, fingerprint):
        raise UsageError(
            f"the stream's hashes were made with another mask key (fingerprint {recorded}, not {fingerprint})",
            f"name that key with --mask-key; to use a new one, which changes every hash: remove the stream's tag "
            f"{name} and fill the satellites again",
        )


def _hashes(masks: Iterable[Mask]) -> bool:
    return any(mask.rule == "hash" for mask in masks)


def _key(settings: Settings) -> bytes:
    location = settings.mask_key
    if location.startswith((_SECRET, _ARN)):
        key = _from_secret(location.removeprefix(_SECRET))
    else:
        key = _from_file(Path(location).expanduser() if location else settings.folder / FILE_NAME)
    if len(key) < _MIN_KEY_BYTES:
        raise UsageError(
            f"the mask key in {location or FILE_NAME} has {len(key)} bytes: it could be guessed", "use 32 random ones"
        )
    return key


def _from_file(path: Path) -> bytes:
    try:
        _create(path)
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise UsageError(f"others may read the mask key {path}", f"chmod 600 {path}")
            return file.read().strip()
    except OSError as error:
        raise UsageError(f"the mask key {path} cannot be used: {error}", "fix --mask-key (CDC_MASK_KEY)") from error


def _create(path: Path) -> None:
    """Create the file unless it exists; atomically, so that no process ever reads half a key."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_hex(32).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
        logger.warning("created the mask key %s: keep a copy, the hashes cannot be reproduced without it", path)
    except FileExistsError:
        pass  # another process was first
    finally:
        temporary.unlink()


def _from_secret(name: str) -> bytes:
    try:
        answer = boto3.client("secretsmanager").get_secret_value(SecretId=name)
    except (ClientError, BotoCoreError) as error:
        raise UsageError(
            f"the mask key's secret {name!r} cannot be read: {error}", "check its name, the region and the policy"
        ) from error
    secret: bytes | str = answer.get("SecretString") or answer.get("SecretBinary") or b""
    return (secret.encode() if isinstance(secret, str) else bytes(secret)).strip()
