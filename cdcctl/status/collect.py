"""One look at everything. A part that does not answer is told as such; the others are asked all the same."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import boto3
from botocore.exceptions import BotoCoreError

from cdcctl.status.downstream import Asking, Leases, known_consumers
from cdcctl.status.model import ConsumerState, Failure, Health, StreamState
from cdcctl.status.upstream import ask_producer, ask_slot, ask_stream
from cdckit.errors import CdcError, StreamError
from cdckit.runtime.settings import Settings
from consumers.kcl.properties import renewal_seconds
from consumers.stream.reader import kinesis_client

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Looker:
    """Looks again and again; the leases' counters of one look tell the next one who is alive."""

    settings: Settings
    _before: Leases = field(default_factory=dict)
    _read_at: float = 0.0

    def look(self) -> Health:
        """Everything as it is now. The first look waits until live workers must have renewed their leases."""
        slot = _asked(lambda: ask_slot(self.settings))
        producer = ask_producer(self.settings)
        try:
            kinesis = kinesis_client()
            stream = _asked(lambda: ask_stream(self.settings, kinesis))
            consumers = self._consumers(self._asking(kinesis, stream))
        except StreamError as error:
            stream, consumers = Failure(error.message, error.hint), []
        return Health(time.time(), self.settings.source, slot, producer, stream, consumers)

    def _asking(self, kinesis: KinesisClient, stream: StreamState | Failure) -> Asking:
        hours = timedelta(hours=stream.retention_hours) if isinstance(stream, StreamState) else None
        try:
            return Asking(self.settings, kinesis, boto3.client("dynamodb"), hours)
        except BotoCoreError as error:
            raise StreamError(f"no DynamoDB client: {error}", "set AWS_REGION") from error

    def _consumers(self, asking: Asking) -> list[ConsumerState]:
        names = known_consumers(self.settings)
        if not self._read_at:
            self._before, _ = asking.leases(names)
            self._read_at = time.monotonic()
        if self._before:
            time.sleep(max(0.0, self._read_at + renewal_seconds(os.environ) - time.monotonic()))
        now, failed = asking.leases(names)
        states = [asking.consumer(name, self._before.get(name, {}), now[name]) for name in names if name in now]
        states += [
            ConsumerState(name, self.settings.application(name), (), None, error=why) for name, why in failed.items()
        ]
        self._before, self._read_at = now, time.monotonic()
        return states


def _asked(ask: Callable[[], Answer]) -> Answer | Failure:
    try:
        return ask()
    except CdcError as error:
        return Failure(error.message, error.hint)
