"""Assembles and runs a producer from the settings: checks first, then the relay, again when PostgreSQL comes back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from cdckit.change import Table
from cdckit.errors import EpochChanged, SlotLost, SourceError
from cdckit.settings import Settings
from producer.kinesis import Publisher, Target
from producer.relay import Relay
from producer.routing import Origin, Router, TableFilter
from producer.slot import SlotReader
from producer.source import Source
from producer.stream import Stream, Wanted, decide_origin, kinesis_client

logger = logging.getLogger(__name__)

_RETRY_MOST = 15.0


@dataclass(frozen=True, slots=True)
class Result:
    """What one run did."""

    changes: int
    records: int
    refused: int

    def __add__(self, other: Result) -> Result:
        return Result(self.changes + other.changes, self.records + other.records, self.refused + other.refused)


def run(settings: Settings, stopping: Callable[[], bool], *, new_epoch: bool = False) -> Result:
    """Relay changes until `stopping`. The first start must succeed; later failures of PostgreSQL are waited out.

    Raises SourceError (also SlotInUse, SlotLost, EpochChanged) and StreamError with what mends them.
    """
    stream = Stream(kinesis_client(), settings.stream)
    target = stream.target()
    origin = prepare(settings, stream, new_epoch=new_epoch)
    total, delay, started = Result(0, 0, 0), 0.5, False
    while not stopping():
        try:
            if started:
                origin = prepare(settings, stream)
            reader = SlotReader(settings.dsn, settings.slot)
        except (SlotLost, EpochChanged):
            raise
        except SourceError as error:
            if not started:
                raise
            logger.warning("%s; next try in %.1f s", error.message, delay)
            time.sleep(delay)
            delay = min(delay * 2, _RETRY_MOST)
            continue
        started, delay = True, 0.5
        total += _relay(settings, target, origin, reader, stopping)
    return total


def prepare(settings: Settings, stream: Stream, *, new_epoch: bool = False) -> Origin:
    """Check the server against the stream's record of it, make the slot at the first run, write the record.

    The slot is made before the record: dying between the two repeats the first run, and loses nothing.
    """
    source = Source(settings.dsn)
    try:
        server, slot = source.server(), source.slot(settings.slot)
        recorded = stream.recorded(settings.source)
        wanted = Wanted(settings.source, settings.slot)
        origin = decide_origin(recorded, server, wanted, slot_exists=slot is not None, new_epoch=new_epoch)
        if slot is None:
            source.create_slot(settings.slot)
            logger.info("created the slot %r: changes from now on are published", settings.slot)
        elif slot.plugin != "wal2json" or slot.wal_status == "lost":
            raise _unusable(settings.slot, slot.plugin, slot.wal_status)
        for table in source.tables_without_key():
            logger.warning(
                "%s has no primary key: wal2json drops its updates and deletes; mend: %s", table, _identity(table)
            )
    finally:
        source.close()
    if recorded is not None and recorded.timeline != origin.timeline:
        logger.warning("the server moved from timeline %d to %d (a failover)", recorded.timeline, origin.timeline)
    if recorded != origin:
        stream.record(origin)
    return origin


def _identity(table: Table) -> str:
    return f"ALTER TABLE {table} REPLICA IDENTITY FULL"


def _unusable(slot: str, plugin: str, wal_status: str) -> SourceError:
    if wal_status == "lost":
        return SlotLost(
            f"the slot {slot!r} lost its WAL (wal_status lost, max_slot_wal_keep_size): changes are missing",
            f"SELECT pg_drop_replication_slot('{slot}'); then cdcctl producer run --new-epoch",
        )
    return SourceError(f"the slot {slot!r} belongs to the plugin {plugin!r}, not wal2json", "use another --slot")


def _relay(
    settings: Settings, target: Target, origin: Origin, reader: SlotReader, stopping: Callable[[], bool]
) -> Result:
    publisher = Publisher(target)
    relay = Relay(reader, Router(origin, TableFilter.parse(settings.table, settings.exclude_table)), publisher)
    logger.info(
        "relaying slot %r of source %r (epoch %d) to stream %r", settings.slot, origin.source, origin.epoch, target.name
    )
    try:
        relay.run(stopping)
    except SourceError as error:
        logger.warning("%s; reconnecting", error.message)
    finally:
        reader.close()
        publisher.close()
    figures = publisher.figures
    return Result(relay.changes, figures.accepted, figures.refused)
