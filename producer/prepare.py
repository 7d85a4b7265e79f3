"""Checks before the first change: is this the server that the stream follows, and can its slot be read."""

from __future__ import annotations

import logging
from typing import Protocol

from cdckit.change import Table
from cdckit.errors import SlotLost, SourceError
from cdckit.settings import Settings
from producer.mask_key import pin_key
from producer.masking import Masks
from producer.masks import Column, check_masks
from producer.routing import Origin, TableFilter
from producer.source import Server, Slot, Source
from producer.stream import Stream, Wanted, decide_origin

logger = logging.getLogger(__name__)


_NO_MASKS = Masks()


class Past(Protocol):
    """What is to be published of the time before the slot."""

    def make_slot(self, source: Source, origin: Origin, /) -> None:
        """Make the slot."""

    def first_run(self, origin: Origin, /) -> None:
        """The slot is there already, and the stream has no record of this source: nothing was published yet."""


def prepare(
    settings: Settings,
    stream: Stream,
    masks: Masks = _NO_MASKS,
    *,
    new_epoch: bool = False,
    past: Past | None = None,
) -> Origin:
    """Check the server against the stream's record of it, make the slot at the first run, write the record.

    The slot is made (by `past`, where that is given) before the record: dying between the two repeats the first run,
    and loses nothing. Raises SourceError, EpochChanged, SlotLost and StreamError, and UsageError for a mask that cannot
    be meant.
    """
    pin_key(masks, stream, settings.source)
    source = Source(settings.dsn)
    try:
        server, slot = source.server(), source.slot(settings.slot)
        _check_server(server)
        _check_masks(settings, source, masks)
        recorded = stream.recorded(settings.source)
        wanted = Wanted(settings.source, settings.slot)
        origin = decide_origin(recorded, server, wanted, slot_exists=slot is not None, new_epoch=new_epoch)
        if slot is None:
            past.make_slot(source, origin) if past else source.create_slot(settings.slot)
            logger.info("created the slot %r: changes from now on are published", settings.slot)
        else:
            _check_slot(slot, server)
            if recorded is None and past:
                past.first_run(origin)
        _warn_of_tables(source, TableFilter.parse(settings.table, settings.exclude_table))
    finally:
        source.close()
    if recorded is None or recorded.origin != origin:
        if (
            recorded is not None
            and recorded.origin.timeline != origin.timeline
            and recorded.origin.epoch == origin.epoch
        ):
            logger.warning(
                "the server moved from timeline %d to %d (a failover)", recorded.origin.timeline, origin.timeline
            )
        stream.record(origin)
    return origin


def _check_server(server: Server) -> None:
    if server.encoding != "UTF8":
        raise SourceError(
            f"the database's encoding is {server.encoding}: wal2json would write text that is no JSON",
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
            "use another --slot, or mend the database's name in --dsn (CDC_DSN)",
        )
    if slot.wal_status == "lost":
        raise SlotLost(
            f"the slot {slot.name!r} lost its WAL (wal_status lost: max_slot_wal_keep_size): the changes between "
            f"{slot.confirmed} and {server.lsn} that were not yet published are missing from the stream",
            f"SELECT pg_drop_replication_slot('{slot.name}'); then cdcctl producer run --new-epoch, and fill the "
            "satellites again; a larger max_slot_wal_keep_size prevents it",
        )


def _check_masks(settings: Settings, source: Source, masks: Masks) -> None:
    if not masks:
        return
    tables = TableFilter.parse(settings.table, settings.exclude_table)
    columns = [Column(*found) for found in source.columns() if tables.wants(found[0])]
    masks.know(columns)
    for mask in check_masks(masks.masks, columns):
        logger.warning("mask %s matches no column of a published table", mask)


def _warn_of_tables(source: Source, tables: TableFilter) -> None:
    for table in source.tables_without_key():
        if tables.wants(table):
            logger.warning(
                "%s has no primary key: wal2json drops its updates and deletes; mend: %s", table, _identity(table)
            )


def _identity(table: Table) -> str:
    return f"ALTER TABLE {table} REPLICA IDENTITY FULL"
