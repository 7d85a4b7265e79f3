"""The producer as a Lambda function (handler ``producer.lambda_handler.handler``): an invocation is one bounded run.

It takes the slot, relays until its time runs low or nothing more comes, drains, acknowledges, returns figures. Killed
at its limit it loses nothing: what was not acknowledged comes again with the next one. Settings come from ``CDC_*``.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

from cdckit.errors import CdcError, SlotInUse, UsageError
from cdckit.runtime import logs
from cdckit.runtime.settings import Settings, aws_region, resolve
from producer.service import Pace, Result, run

logger = logging.getLogger(__name__)

_IDLE_SECONDS = "CDC_LAMBDA_IDLE_SECONDS"
_NOTHING = Result(0, 0, 0, "0/0", "")
_DRAIN_MOST = 8.0
_MARGIN_MOST = 12.0  # seconds after draining: a request that is not answered holds its thread for so long


class Context(Protocol):
    """What is used of Lambda's context object."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the invocation is killed."""


class ProducerFailed(Exception):
    """Why the run failed and what mends it, as Lambda reports it; it quotes no secret."""


def handler(event: object, context: Context) -> dict[str, Any]:
    """Run until little time is left, or until nothing came for CDC_LAMBDA_IDLE_SECONDS (10); returns figures.

    ``{"status": "relayed" | "unfinished" | "busy", "changes", "records", "refused", "acknowledged",
    "newest_commit", "seconds"}``.
    *busy*: another producer has the slot, nothing was done. *unfinished*: changes were published but no transaction
    became whole; if that repeats, one is larger than a run can carry. The event ``{"new_epoch": true}`` accepts
    another server or a lost slot. Raises ProducerFailed.
    """
    started = time.monotonic()
    os.environ.update(aws_region(os.environ))
    try:
        settings = resolve({}, os.environ)[0]
        logs.configure("producer", settings.log_format)
        figures = _run(settings, context, new_epoch=isinstance(event, Mapping) and event.get("new_epoch") is True)
    except CdcError as error:
        text = f"{type(error).__name__}: {error.message}{f' ({error.hint})' if error.hint else ''}"
        raise ProducerFailed(text) from None
    figures["seconds"] = round(time.monotonic() - started, 3)
    logger.info("%s", " ".join(f"{name}={value}" for name, value in figures.items()))
    return figures


def _run(settings: Settings, context: Context, *, new_epoch: bool) -> dict[str, Any]:
    remaining = context.get_remaining_time_in_millis
    total = remaining() / 1000
    drain = min(_DRAIN_MOST, total / 5)
    reserve = drain + min(_MARGIN_MOST, total / 5)
    pace = Pace(drain, _idle_seconds(), busy_seconds=0)
    try:
        result = run(settings, _time_is_low(remaining, reserve), new_epoch=new_epoch, pace=pace)
    except SlotInUse as error:
        return {"status": "busy", **asdict(_NOTHING), "why": error.message}
    return {"status": _status(result), **asdict(result)}


def _time_is_low(remaining: Callable[[], int], reserve: float) -> Callable[[], bool]:
    return lambda: remaining() < reserve * 1000


def _status(result: Result) -> str:
    if result.changes and not result.newest_commit:
        logger.warning(
            "%d changes published and none acknowledged: if this repeats, a transaction is larger than a run can "
            "carry; raise the function's timeout, or run the producer as a long-running process",
            result.changes,
        )
        return "unfinished"
    return "relayed"


def _idle_seconds() -> float:
    text = os.environ.get(_IDLE_SECONDS, "10")
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{_IDLE_SECONDS} cannot be {text!r}", "use a number of seconds, like 10") from error
