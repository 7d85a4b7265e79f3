"""Which place the setting ``dead_letters`` names."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from cdckit.errors import UsageError
from consumers.dead_letters.letter import DeadLetterStore
from consumers.dead_letters.local import LocalDeadLetters
from consumers.dead_letters.s3 import S3DeadLetters
from consumers.dead_letters.sqs import SqsDeadLetters

_QUEUE_URL = re.compile(r"https?://.+/\d+/[\w.-]+")


def open_store(url: str, consumer: str, data: Path) -> DeadLetterStore:
    """The dead letters of one consumer: at `url`, else below the data folder.

    `url` is a folder, ``s3://BUCKET/PREFIX`` or a queue's ``https://sqs.REGION…/ACCOUNT/QUEUE`` (also with
    ``sqs+https://``). Raises UsageError on anything else.
    """
    if not url:
        return LocalDeadLetters(data / "dead-letters" / consumer)
    parts = urlsplit(url)
    if parts.scheme == "s3" and parts.netloc:
        prefix = parts.path.strip("/")
        return S3DeadLetters(parts.netloc, f"{prefix}/{consumer}" if prefix else consumer)
    plain = url.removeprefix("sqs+")
    if _QUEUE_URL.fullmatch(plain):
        return SqsDeadLetters(plain, consumer)
    if parts.scheme in ("", "file") and not parts.netloc:
        return LocalDeadLetters(Path(parts.path).expanduser() / consumer)
    raise UsageError(
        f"dead_letters cannot be {url!r}", "use a folder, s3://BUCKET/PREFIX, or an SQS queue's https:// URL"
    )
