"""The key of the masks' hashes: a file made at first use, or a secret; pinned on the stream by a fingerprint."""

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
from producer.masking.masker import Masks
from producer.masking.rules import Mask, parse_masks

logger = logging.getLogger(__name__)

FILE = "mask.key"
_SECRET, _ARN = "secretsmanager:", "arn:aws"
_FEWEST = 16


def open_masks(settings: Settings) -> Masks:
    """The masks that the settings ask for, with their key when they hash. Raises UsageError."""
    masks = parse_masks(settings.mask)
    return Masks(masks, _key(settings) if _hashes(masks) else b"")


def pin_key(masks: Masks, stream: Stream, source: str) -> None:
    """Hold the key against the one that the stream's hashes were made with; the first run's key is noted there.

    With another key every hash would be another, and no row would be found again. Raises UsageError, StreamError.
    """
    if not _hashes(masks.masks):
        return
    mine = bytes(masks.value("hash", b'"cdc.mask.fingerprint"'))[1:17].decode()
    name = f"cdc.mask.{source}"
    noted = stream.tag(name)
    if noted is None:
        stream.set_tag(name, mine)
    elif not hmac.compare_digest(noted, mine):
        raise UsageError(
            f"the stream's hashes were made with another mask key (fingerprint {noted}, not {mine})",
            f"name that key with --mask-key; if a new one is meant, every hash changes: remove the stream's tag {name} "
            "and fill the satellites anew",
        )


def _hashes(masks: Iterable[Mask]) -> bool:
    return any(mask.rule == "hash" for mask in masks)


def _key(settings: Settings) -> bytes:
    place = settings.mask_key
    if place.startswith((_SECRET, _ARN)):
        key = _from_secret(place.removeprefix(_SECRET))
    else:
        key = _from_file(Path(place).expanduser() if place else settings.folder / FILE)
    if len(key) < _FEWEST:
        raise UsageError(
            f"the mask key in {place or FILE} has {len(key)} bytes: it could be guessed", "use 32 random ones"
        )
    return key


def _from_file(path: Path) -> bytes:
    try:
        _make(path)
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise UsageError(f"others may read the mask key {path}", f"chmod 600 {path}")
            return file.read().strip()
    except OSError as error:
        raise UsageError(f"the mask key {path} cannot be used: {error}", "mend --mask-key (CDC_MASK_KEY)") from error


def _make(path: Path) -> None:
    """Make the file unless it is there; whole or not at all, so that no process ever reads half a key."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_hex(32).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)
        logger.warning("made the mask key %s: keep a copy, hashes cannot be made again without it", path)
    except FileExistsError:
        pass  # another process was first
    finally:
        fresh.unlink()


def _from_secret(name: str) -> bytes:
    try:
        answer = boto3.client("secretsmanager").get_secret_value(SecretId=name)
    except (ClientError, BotoCoreError) as error:
        raise UsageError(
            f"the mask key's secret {name!r} cannot be read: {error}", "check its name, the region and the policy"
        ) from error
    secret: bytes | str = answer.get("SecretString") or answer.get("SecretBinary") or b""
    return (secret.encode() if isinstance(secret, str) else bytes(secret)).strip()
