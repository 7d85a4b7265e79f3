"""Checks before the first change that the stream follows this server, and that its slot can be read."""

from __future__ import annotations

import logging
from typing import Protocol

from cdckit.errors import SlotLost, SourceError
from cdckit.runtime.settings import Settings
from producer.decoding.table_filter import TableFilter
from producer.epoch import RequestedSlot, StreamState, decide_origin, read_state, write_state
from producer.kinesis.stream import Stream
from producer.masking.mask_key import pin_key
from producer.masking.masker import Masker
from producer.masking.rules import TableColumn, check_masks
from producer.postgres.catalog import all_columns, unfollowable
from producer.postgres.connection import Source
from producer.postgres.server import Server, identify_server
from producer.postgres.slots import Slot, create_slot, find_slot
from producer.records import Origin

logger = logging.getLogger(__name__)


_NO_MASKS = Masker()


class FirstRun(Protocol):
    """What happens when the stream has no record of the source yet."""

    def create_slot(self, source: Source, origin: Origin, /) -> None:
        """Create the missing slot."""

    def first_run(self, origin: Origin, /) -> None:
        """The slot exists already, and nothing of this source was published yet."""


def prepare(
    settings: Settings,
    stream: Stream,
    masker: Masker = _NO_MASKS,
    *,
    new_epoch: bool = False,
    first_run: FirstRun | None = None,
) -> Origin:
    """Check the server against the stream's record of it, create the slot on the first run, write the record.

    The slot is created (by `first_run`, if given) before the record is written: a crash between the two repeats the
    first run and loses nothing. Raises SourceError, EpochChanged, SlotLost and StreamError, and UsageError for a mask
    that does not fit the tables.
    """
    pin_key(masker, stream, settings.source)
    source = Source(settings.dsn)
    try:
        server, slot = identify_server(source), find_slot(source, settings.slot)
        _check_server(server)
        _check_masks(settings, source, masker)
        recorded = read_state(stream, settings.source)
        requested = RequestedSlot(settings.source, settings.slot)
        origin = decide_origin(recorded, server, requested, slot_exists=slot is not None, new_epoch=new_epoch)
        if slot is None:
            first_run.create_slot(source, origin) if first_run else create_slot(source, settings.slot)
            logger.info("created the slot %r: changes from now on are published", settings.slot)
        else:
            _check_slot(slot, server)
            if recorded is None and first_run:
                first_run.first_run(origin)
        _warn_about_unfollowable_tables(source, TableFilter.parse(settings.table, settings.exclude_table))
    finally:
        source.close()
    if recorded is None or recorded.origin != origin:
        _log_failover(recorded, origin)
        write_state(stream, origin)
    return origin


def _log_failover(recorded: StreamState | None, origin: Origin) -> None:
    if recorded is None or recorded.origin.epoch != origin.epoch or recorded.origin.timeline == origin.timeline:
        return
    logger.warning("the server moved from timeline %d to %d (a failover)", recorded.origin.timeline, origin.timeline)


def _check_server(server: Server) -> None:
    if server.encoding != "UTF8":
        raise SourceError(
            f"the database's encoding is {server.encoding}: wal2json would not write valid JSON",
            "the source must be a UTF8 database",
        )


def _check_slot(slot: Slot, server: Server) -> None:
    if slot.plugin != "wal2json":
        raise SourceError(
            f"the slot {slot.name!r} belongs to the plugin {slot.plugin!r}, not wal2json", "use another --slot"
        )
    if slot.database != server.database:
        raise SourceError(
            f"the slot {slot.name!r} belongs to the database {slot.database!r}, not {server.database!r}",
            "use another --slot, or fix the database's name in --dsn (CDC_DSN)",
        )
    if slot.wal_status == "lost":
        raise SlotLost(
            f"the slot {slot.name!r} lost its WAL (wal_status lost: max_slot_wal_keep_size): the changes between "
            f"{slot.confirmed} and {server.lsn} that were not yet published are missing from the stream",
            f"SELECT pg_drop_replication_slot('{slot.name}'); then cdcctl producer run --new-epoch, and fill the "
            "satellites again; a larger max_slot_wal_keep_size prevents it",
        )


def _check_masks(settings: Settings, source: Source, masker: Masker) -> None:
    if not masker:
        return
    tables = TableFilter.parse(settings.table, settings.exclude_table)
    columns = [TableColumn(*found) for found in all_columns(source) if tables.wants(found[0])]
    masker.set_known_columns(columns)
    for mask in check_masks(masker.masks, columns):
        logger.warning("mask %s matches no column of a published table", mask)


def _warn_about_unfollowable_tables(source: Source, tables: TableFilter) -> None:
    for relation in unfollowable(source):
        if tables.wants(relation.table):
            logger.warning("%s: %s; fix: %s", relation.table, relation.problem, relation.fix)
