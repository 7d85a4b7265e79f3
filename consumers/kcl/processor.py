"""Runs one shard as a child of the MultiLangDaemon; the only importer of amazon_kclpy.

kclpy catches every exception of a callback and reports success, which would skip the batch without a word; only
SystemExit gets through. So each callback here ends the process on any exception, and the KCL delivers again from the
last checkpoint. File descriptor 1 carries the daemon's protocol: `serve` moves it, so that no print can reach it.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from amazon_kclpy import kcl  # noqa: TID251
from amazon_kclpy.v3 import processor  # noqa: TID251

from cdckit.errors import CdcError, ConsumerError
from consumers.kcl.shutdown import StopRequest
from consumers.stream.record import RawRecord
from consumers.worker.shard import Checkpointer, ShardWorker

logger = logging.getLogger(__name__)

_MAX_ATTEMPTS = 5
_MAX_STOP_SECONDS = 60.0  # within this time the daemon should have ended a process that stopped inside a page
_LEASE_LOST_CODES = {"ShutdownException"}
_RETRYABLE_CODES = {"ThrottlingException", "KinesisClientLibDependencyException"}

Callback = TypeVar("Callback", bound=Callable[..., None])


def _end_process_on_error(callback: Callback) -> Callback:
    @wraps(callback)
    def guarded(*arguments: Any) -> None:
        try:
            callback(*arguments)
        except CdcError as error:
            logger.error("%s%s; the process ends", error, f" ({error.hint})" if error.hint else "")
            _exit()
        except Exception:
            logger.exception("unexpected error; the process ends, the KCL delivers again")
            _exit()

    return guarded  # type: ignore[return-value]


def _exit() -> None:
    logging.shutdown()
    raise SystemExit(1)


class LeaseLost(Exception):
    """Another worker has the lease: this one must not write any more."""


class Processor(processor.RecordProcessorBase):  # type: ignore[misc]
    """Passes the KCL's callbacks to a `ShardWorker`, which `open_worker` makes once the shard is known."""

    def __init__(
        self, open_worker: Callable[[str], ShardWorker], stop_requested: Callable[[], bool] = lambda: False
    ) -> None:
        """`open_worker` is called once, with the shard's id; `stop_requested` is called while a page is processed."""
        self._open_worker, self._stop_requested = open_worker, stop_requested
        self._worker: ShardWorker | None = None
        self._finished = False
        self._stopped_at: float | None = None

    @_end_process_on_error
    def initialize(self, initialize_input: Any) -> None:
        """Opens the sink: this process has the lease."""
        self._worker = self._open_worker(initialize_input.shard_id)
        logger.info("reading from %s", initialize_input.sequence_number or "the oldest record of the shard")

    @_end_process_on_error
    def process_records(self, process_records_input: Any) -> None:
        """Applies records; may get none. Once a page was stopped inside, the rest belongs to the next process."""
        if self._stopped_at is not None:
            _check_stop_time(self._stopped_at)
            return
        records = [
            RawRecord(item.binary_data, item.partition_key, item.sequence_number, item.sub_sequence_number or 0)
            for item in process_records_input.records
        ]
        kcl_checkpointer = process_records_input.checkpointer
        try:
            behind, checkpointer = process_records_input.millis_behind_latest, _checkpointer(kcl_checkpointer)
            if not self._opened.process(records, behind, checkpointer, self._stop_requested):
                self._stopped_at = time.monotonic()
                logger.info("stop requested: flushed and checkpointed inside a page")
        except LeaseLost:
            logger.warning("the lease moved to another worker")

    @_end_process_on_error
    def lease_lost(self, lease_lost_input: Any) -> None:  # noqa: ARG002
        """Closes the sink without a flush: the lease belongs to another worker."""
        logger.info("the lease was given up" if self._finished else "the lease moved to another worker")
        self._opened.close()

    @_end_process_on_error
    def shard_ended(self, shard_ended_input: Any) -> None:
        """Flushes and checkpoints the end of a shard that was split or merged and is read to its end."""
        if self._stopped_at is not None:
            raise ConsumerError("the shard ended, but processing stopped inside its last page, which is read again")
        self._opened.end_shard(lambda: _with_retries(shard_ended_input.checkpointer.checkpoint))
        self._opened.close()
        logger.info("the shard has ended; its child shards follow")

    @_end_process_on_error
    def shutdown_requested(self, shutdown_requested_input: Any) -> None:
        """Flushes and checkpoints while this process has the lease: the daemon got SIGTERM, or hands the lease over."""
        try:
            self._opened.finish(_checkpointer(shutdown_requested_input.checkpointer))
        except LeaseLost:
            logger.warning("the lease moved to another worker before the last checkpoint")
        self._finished = True
        logger.info("flushed and checkpointed for shutdown")

    @property
    def _opened(self) -> ShardWorker:
        assert self._worker is not None, "the KCL calls initialize first"
        return self._worker


def serve(open_worker: Callable[[str], ShardWorker]) -> None:
    """Speaks the daemon's protocol on this process's standard streams until the daemon closes them."""
    protocol = os.dup(0)
    reader = os.fdopen(protocol, "r", encoding="utf-8")
    writer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    kcl.KCLProcess(Processor(open_worker, StopRequest(protocol)), reader, writer, sys.stderr).run()


def _check_stop_time(stopped_at: float) -> None:
    if time.monotonic() - stopped_at > _MAX_STOP_SECONDS:
        raise ConsumerError("a stop was requested, but the daemon did not end", "signal the daemon, not its children")


def _checkpointer(of_kcl: Any) -> Checkpointer:
    return lambda at: _with_retries(lambda: of_kcl.checkpoint(at.sequence_number, at.sub_sequence_number))


def _with_retries(call: Callable[[], None]) -> None:
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        try:
            call()
            return
        except kcl.CheckpointError as error:
            if error.value in _LEASE_LOST_CODES:
                raise LeaseLost from error
            if error.value not in _RETRYABLE_CODES or attempt == _MAX_ATTEMPTS:
                raise
            time.sleep(0.2 * 2**attempt)
