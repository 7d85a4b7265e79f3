"""The KCL's side: a MultiLangDaemon's child for one shard; the only importer of amazon_kclpy.

kclpy catches every exception of a callback and reports success, which would skip the batch in silence; only SystemExit
gets out. So each callback here ends the process on any exception, and the KCL delivers again from the last checkpoint.
File descriptor 1 is the daemon's protocol: it is moved out of the way, so that no print can reach it.
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
from consumers.kcl.shutdown import Leaving
from consumers.stream.record import RawRecord
from consumers.worker.shard import Mark, ShardWorker

logger = logging.getLogger(__name__)

_TRIES = 5
_PATIENCE = 60.0  # seconds after which a process that left its page should have been ended
_GONE = {"ShutdownException"}
_AGAIN = {"ThrottlingException", "KinesisClientLibDependencyException"}

Callback = TypeVar("Callback", bound=Callable[..., None])


def _fatal(callback: Callback) -> Callback:
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
    """Another worker has the lease: nothing may be written any more."""


class Processor(processor.RecordProcessorBase):  # type: ignore[misc]
    """Hands the KCL's callbacks to a `ShardWorker`, which `open_worker` makes once the shard is known."""

    def __init__(self, open_worker: Callable[[str], ShardWorker], leaving: Callable[[], bool] = lambda: False) -> None:
        """`open_worker` is called once, with the shard's id; `leaving` is asked in the midst of a page."""
        self._open_worker, self._leaving = open_worker, leaving
        self._worker: ShardWorker | None = None
        self._finished = False
        self._left: float | None = None

    @_fatal
    def initialize(self, initialize_input: Any) -> None:
        """The lease is ours: open the sink."""
        self._worker = self._open_worker(initialize_input.shard_id)
        logger.info("reading from %s", initialize_input.sequence_number or "the start of what the stream holds")

    @_fatal
    def process_records(self, process_records_input: Any) -> None:
        """Some records, or none; none is applied once an earlier page was left: the next process gets them."""
        if self._left is not None:
            _must_end_soon(self._left)
            return
        records = [
            RawRecord(item.binary_data, item.partition_key, item.sequence_number, item.sub_sequence_number or 0)
            for item in process_records_input.records
        ]
        checkpointer = process_records_input.checkpointer
        try:
            behind, mark = process_records_input.millis_behind_latest, _checkpoint(checkpointer)
            if not self._opened.process(records, behind, mark, self._leaving):
                self._left = time.monotonic()
                logger.info("told to stop: flushed and checkpointed in the midst of a page")
        except LeaseLost:
            logger.warning("the lease moved to another worker")

    @_fatal
    def lease_lost(self, lease_lost_input: Any) -> None:  # noqa: ARG002
        """Stop at once: nothing is flushed late."""
        logger.info("the lease is given up" if self._finished else "the lease moved to another worker")
        self._opened.close()

    @_fatal
    def shard_ended(self, shard_ended_input: Any) -> None:
        """The shard was split or merged and is read to its end."""
        if self._left is not None:
            raise ConsumerError("the shard ended, but its last page was left: it is read again")
        self._opened.ended(lambda: _patiently(shard_ended_input.checkpointer.checkpoint))
        self._opened.close()
        logger.info("the shard has ended: its children follow")

    @_fatal
    def shutdown_requested(self, shutdown_requested_input: Any) -> None:
        """SIGTERM to the daemon, or a handoff: flush and checkpoint while the lease is still ours."""
        try:
            self._opened.finish(_checkpoint(shutdown_requested_input.checkpointer))
        except LeaseLost:
            logger.warning("the lease moved to another worker before the last checkpoint")
        self._finished = True
        logger.info("flushed and checkpointed for shutdown")

    @property
    def _opened(self) -> ShardWorker:
        assert self._worker is not None, "the KCL calls initialize first"
        return self._worker


def serve(open_worker: Callable[[str], ShardWorker]) -> None:
    """Speak the daemon's protocol on this process's standard streams until the daemon closes them."""
    protocol = os.dup(0)
    reader = os.fdopen(protocol, "r", encoding="utf-8")
    writer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    kcl.KCLProcess(Processor(open_worker, Leaving(protocol)), reader, writer, sys.stderr).run()


def _must_end_soon(left: float) -> None:
    if time.monotonic() - left > _PATIENCE:
        raise ConsumerError("told to stop, and nobody ended this process", "signal the daemon, not its children")


def _checkpoint(checkpointer: Any) -> Callable[[Mark], None]:
    return lambda mark: _patiently(lambda: checkpointer.checkpoint(mark.sequence_number, mark.sub_sequence_number))


def _patiently(call: Callable[[], None]) -> None:
    for attempt in range(1, _TRIES + 1):
        try:
            call()
            return
        except kcl.CheckpointError as error:
            if error.value in _GONE:
                raise LeaseLost from error
            if error.value not in _AGAIN or attempt == _TRIES:
                raise
            time.sleep(0.2 * 2**attempt)
