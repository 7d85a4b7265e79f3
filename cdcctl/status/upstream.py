"""Queries the slot, the producer's metrics endpoint and the stream."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING
from urllib.error import URLError

from botocore.exceptions import BotoCoreError, ClientError
from prometheus_client.parser import text_string_to_metric_families

from cdcctl.status.model import ProducerState, SlotState, StreamState
from cdckit.errors import SlotLost, StreamError
from cdckit.runtime.settings import Settings
from consumers.stream.shards import is_open, list_shards
from producer.epoch import read_state
from producer.kinesis.stream import Stream
from producer.postgres.connection import Source
from producer.postgres.credentials import SourceDsn
from producer.postgres.slot_monitor import evaluate, parse_size
from producer.postgres.slots import find_slot

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

_TIMEOUT = 2.0
# inactive_since is a column of PostgreSQL 17 and newer
_END = """
SELECT pg_current_wal_lsn() - '0/0'::pg_lsn,
       (SELECT extract(epoch FROM now() - (to_jsonb(s) ->> 'inactive_since')::timestamptz)
        FROM pg_replication_slots s WHERE slot_name = %s)
"""


def query_slot(settings: Settings) -> SlotState:
    """Query the slot. Raises SourceError, and SlotLost when the slot does not exist."""
    source = Source(SourceDsn(settings)())
    try:
        slot, [(end, idle)] = find_slot(source, settings.slot), source.query(_END, (settings.slot,))
    finally:
        source.close()
    if slot is None:
        raise SlotLost(f"there is no slot {settings.slot!r} on this server", "cdcctl producer run creates it")
    status = evaluate(slot, parse_size(settings.max_retained_wal))
    idle_seconds = None if idle is None else float(idle)
    return SlotState(
        slot.name, slot.database, slot.active_pid, idle_seconds, int(slot.confirmed), int(end), slot.retained,
        status.share, status.level, status.text, status.hint,
    )  # fmt: skip


def query_producer(settings: Settings) -> ProducerState | None:
    """Query the producer's metrics on ``metrics_port``; None when the endpoint is not set or not reachable."""
    if not settings.metrics_port:
        return None
    host, _, port = settings.metrics_port.rpartition(":")
    try:
        with urllib.request.urlopen(f"http://{host or '127.0.0.1'}:{port}/metrics", timeout=_TIMEOUT) as answer:
            text = answer.read().decode()
    except (URLError, OSError, ValueError):
        return None
    values = {
        (sample.name, sample.labels.get("why", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return ProducerState(
        *(values.get(key, 0.0) for key in (
            ("cdc_changes_total", ""), ("cdc_retries_total", "refused"), ("cdc_retries_total", "failed"),
            ("cdc_pending_changes", ""), ("cdc_lag_seconds", ""),
        ))
    )  # fmt: skip


def query_stream(settings: Settings, client: KinesisClient) -> StreamState:
    """Query the stream. Raises StreamError when it does not exist or cannot be described."""
    shards = list_shards(settings.stream, client)
    try:
        summary = client.describe_stream_summary(StreamName=settings.stream)["StreamDescriptionSummary"]
    except (ClientError, BotoCoreError) as error:
        raise StreamError(
            f"cannot describe the stream {settings.stream!r}: {error}", "check --stream (CDC_STREAM)"
        ) from error
    state = read_state(Stream(client, settings.stream), settings.source)
    open_shards = sum(map(is_open, shards))
    return StreamState(
        settings.stream,
        summary["StreamStatus"],
        summary.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED"),
        open_shards,
        len(shards) - open_shards,
        summary["RetentionPeriodHours"],
        state.origin.epoch if state else None,
        state.origin.system if state else None,
    )
