"""Collects the state of all parts. A part that does not answer becomes a failure; the others are still queried."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import boto3
from botocore.exceptions import BotoCoreError

from cdcctl.status.downstream import ConsumerInspector, Leases, known_consumers
from cdcctl.status.model import ConsumerState, Failure, Health, StreamState
from cdcctl.status.upstream import query_producer, query_slot, query_stream
from cdckit.errors import CdcError, StreamError
from cdckit.runtime.settings import Settings
from consumers.kcl.properties import renewal_seconds
from consumers.stream.reader import kinesis_client

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

T = TypeVar("T")


@dataclass(slots=True)
class StatusCollector:
    """Collects the state repeatedly. A lease is alive when its counter has changed since the previous collection."""

    settings: Settings
    _before: Leases = field(default_factory=dict)
    _read_at: float = 0.0

    def collect(self) -> Health:
        """The current state. The first call waits until live workers must have renewed their leases."""
        slot = _or_failure(lambda: query_slot(self.settings))
        producer = query_producer(self.settings)
        try:
            kinesis = kinesis_client()
            stream = _or_failure(lambda: query_stream(self.settings, kinesis))
            consumers = self._consumers(self._inspector(kinesis, stream))
        except StreamError as error:
            stream, consumers = Failure(error.message, error.hint), []
        return Health(time.time(), self.settings.source, slot, producer, stream, consumers)

    def _inspector(self, kinesis: KinesisClient, stream: StreamState | Failure) -> ConsumerInspector:
        hours = timedelta(hours=stream.retention_hours) if isinstance(stream, StreamState) else None
        try:
            return ConsumerInspector(self.settings, kinesis, boto3.client("dynamodb"), hours)
        except BotoCoreError as error:
            raise StreamError(f"no DynamoDB client: {error}", "set AWS_REGION") from error

    def _consumers(self, inspector: ConsumerInspector) -> list[ConsumerState]:
        names = known_consumers(self.settings)
        if not self._read_at:
            self._before, _ = inspector.leases(names)
            self._read_at = time.monotonic()
        if self._before:
            time.sleep(max(0.0, self._read_at + renewal_seconds(os.environ) - time.monotonic()))
        now, failed = inspector.leases(names)
        states = [inspector.consumer(name, self._before.get(name, {}), now[name]) for name in names if name in now]
        states += [
            ConsumerState(name, self.settings.application(name), (), None, error=error)
            for name, error in failed.items()
        ]
        self._before, self._read_at = now, time.monotonic()
        return states


def _or_failure(query: Callable[[], T]) -> T | Failure:
    try:
        return query()
    except CdcError as error:
        return Failure(error.message, error.hint)
