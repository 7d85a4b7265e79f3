"""The producer as a Lambda function (handler ``producer.lambda_handler.handler``): one invocation is one bounded run.

It takes the slot, relays until its time runs low or no change arrives, drains, acknowledges and returns counts. If it
is killed at its time limit, nothing is lost: unacknowledged changes come again. Settings come from ``CDC_*``.
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
from producer.service import Result, RunLimits, run

logger = logging.getLogger(__name__)

_IDLE_SECONDS = "CDC_LAMBDA_IDLE_SECONDS"
_EMPTY_RESULT = Result(0, 0, 0, "0/0", "")
_MAX_DRAIN = 8.0
_MAX_MARGIN = 12.0  # seconds after draining: an unanswered request blocks its thread that long


class Context(Protocol):
    """The part of Lambda's context object that is used."""

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the invocation is killed."""


class ProducerFailed(Exception):
    """Why the run failed and what fixes it, as Lambda reports it; it quotes no secret."""


def handler(event: object, context: Context) -> dict[str, Any]:
    """Run until little time is left, or until no change arrived for CDC_LAMBDA_IDLE_SECONDS (10).

    Returns ``{"status": "relayed" | "unfinished" | "busy", "changes", "records", "refused", "acknowledged",
    "newest_commit", "seconds"}``.
    *busy*: another producer reads the slot, nothing was done. *unfinished*: changes were published, but no transaction
    was complete; if that repeats, one is larger than a run can relay. The event ``{"new_epoch": true}`` accepts
    another server or a lost slot. Raises ProducerFailed.
    """
    started = time.monotonic()
    os.environ.update(aws_region(os.environ))
    try:
        settings = resolve({}, os.environ)[0]
        logs.configure("producer", settings.log_format)
        report = _run(settings, context, new_epoch=isinstance(event, Mapping) and event.get("new_epoch") is True)
    except CdcError as error:
        text = f"{type(error).__name__}: {error.message}{f' ({error.hint})' if error.hint else ''}"
        raise ProducerFailed(text) from None
    report["seconds"] = round(time.monotonic() - started, 3)
    logger.info("%s", " ".join(f"{name}={value}" for name, value in report.items()))
    return report


def _run(settings: Settings, context: Context, *, new_epoch: bool) -> dict[str, Any]:
    remaining_ms = context.get_remaining_time_in_millis
    total = remaining_ms() / 1000
    drain = min(_MAX_DRAIN, total / 5)
    reserve = drain + min(_MAX_MARGIN, total / 5)
    limits = RunLimits(drain, _idle_seconds(), slot_wait_seconds=0)
    try:
        result = run(settings, _time_is_low(remaining_ms, reserve), new_epoch=new_epoch, limits=limits)
    except SlotInUse as error:
        return {"status": "busy", **asdict(_EMPTY_RESULT), "why": error.message}
    return {"status": _status(result), **asdict(result)}


def _time_is_low(remaining_ms: Callable[[], int], reserve: float) -> Callable[[], bool]:
    return lambda: remaining_ms() < reserve * 1000


def _status(result: Result) -> str:
    if result.changes and not result.newest_commit:
        logger.warning(
            "%d changes published and none acknowledged: if this repeats, a transaction is larger than a run can "
            "relay; raise the function's timeout, or run the producer as a long-running process",
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
