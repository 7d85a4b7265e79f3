"""Opens the store of dead letters that the setting ``dead_letters`` names."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from cdckit.errors import UsageError
from consumers.dead_letters.letter import DeadLetterStore
from consumers.dead_letters.local import LocalDeadLetters
from consumers.dead_letters.s3 import S3DeadLetters
from consumers.dead_letters.sqs import SqsDeadLetters
from consumers.storage.objects import S3Location

_QUEUE_URL = re.compile(r"https?://.+/\d+/[\w.-]+")


def open_store(url: str, consumer: str, data: Path) -> DeadLetterStore:
    """The dead letters of one consumer: at `url`, or below the data folder when `url` is empty.

    `url` is a folder, ``s3://BUCKET/PREFIX``, or a queue's ``https://sqs.REGION…/ACCOUNT/QUEUE`` (also with
    ``sqs+https://``). Raises UsageError on anything else, ConsumerError when the store cannot be reached.
    """
    if not url:
        return LocalDeadLetters(data / "dead-letters" / consumer)
    if location := S3Location.parse(url):
        return S3DeadLetters(location / consumer)
    queue_url = url.removeprefix("sqs+")
    if _QUEUE_URL.fullmatch(queue_url):
        return SqsDeadLetters(queue_url, consumer)
    parts = urlsplit(url)
    if parts.scheme in ("", "file") and not parts.netloc:
        return LocalDeadLetters(Path(parts.path).expanduser() / consumer)
    raise UsageError(
        f"dead_letters cannot be {url!r}", "use a folder, s3://BUCKET/PREFIX, or an SQS queue's https:// URL"
    )
