"""Writes log lines to stderr: readable text, or one JSON object per line."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import msgspec


class JsonFormatter(logging.Formatter):
    """Formats ``{"time", "level", "logger", "message", "part"}``, and ``error`` for an exception."""

    def __init__(self, part: str) -> None:
        """`part` names the process: ``producer``, ``search shardId-…``."""
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "part": self._part,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def configure(part: str, log_format: str, *, verbose: bool = False) -> None:
    """Send all log lines of this process to stderr; `log_format` is ``text`` or ``json``."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(JsonFormatter(part))
    else:
        handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)-7s {part}: %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    quiet_libraries(verbose=verbose)


def quiet_libraries(*, verbose: bool) -> None:
    """Raise the log level of libraries that log a line per request."""
    for noisy in ("botocore", "boto3", "urllib3", "s3transfer", "opensearch"):
        logging.getLogger(noisy).setLevel(logging.INFO if verbose else logging.WARNING)
