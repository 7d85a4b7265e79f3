"""Turns pages of the stream into the changes that a selection matches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from cdckit.change import Change, Op, Value
from cdckit.envelope import REFERENCE_PREFIX, decode
from cdckit.errors import CdcError, ConsumerError, EnvelopeError, TransientSinkError
from consumers.filters.selection import Selection
from consumers.filters.unknown_columns import UnknownColumns
from consumers.stream.claim_check import Fetcher
from consumers.stream.reader import ShardPage, StreamReader
from consumers.stream.record import RawRecord
from consumers.stream.stop import StopCondition

_MAX_ROWS = 10_000
_UNREADABLE = (EnvelopeError, TransientSinkError, ConsumerError)  # the last two: the store of an oversized change


class FeedItem(msgspec.Struct, frozen=True, gc=False):
    """One record: its change, or the error that prevents reading it. `known` is the row before, if known."""

    shard: str
    record: RawRecord
    arrived: datetime
    change: Change | None
    error: CdcError | None = None
    known: Mapping[str, Value] | None = None


@dataclass(slots=True)
class RowHistory:
    """The last ten thousand rows of the stream, to show what an update changed."""

    _rows: OrderedDict[str, Mapping[str, Value]] = field(default_factory=OrderedDict)

    def before(self, change: Change) -> Mapping[str, Value] | None:
        """The row as it was before this change, as far as known; then remembers the row as it is after it."""
        if change.op is Op.TRUNCATE:
            self._rows.clear()
            return None
        known = self._rows.pop(change.row_id, None)
        old = change.before if change.before and len(change.before) > len(change.key) else known
        if change.after is not None:
            self._rows[change.row_id] = {**(known or {}), **change.after}
        if len(self._rows) > _MAX_ROWS:
            self._rows.popitem(last=False)
        return old


@dataclass(slots=True)
class Feed:
    """The selected changes of a reader's pages, up to the selection's end; `rows` adds what an update changed."""

    reader: StreamReader
    selection: Selection
    rows: RowHistory | None = None
    stop_condition: StopCondition = field(init=False)
    _unknown_columns: UnknownColumns = field(init=False)
    _fetcher: Fetcher = field(default_factory=Fetcher)

    def __post_init__(self) -> None:
        self.stop_condition = StopCondition(self.selection.until)
        where = self.selection.where
        self._unknown_columns = UnknownColumns(where.columns if where is not None else ())

    def batches(self) -> Iterator[tuple[ShardPage, list[FeedItem]]]:
        """Each page, with the records in it that the selection matches. Raises StreamError."""
        for page in self.reader.pages():
            decoded = list(map(self._decode, page.records))
            yield page, self._select(page, decoded)
            if self.stop_condition.done(page, (item for item in decoded if isinstance(item, Change))):
                self.reader.finish(page.shard)
        self._unknown_columns.warn()

    def _decode(self, record: RawRecord) -> Change | CdcError:
        try:
            return (
                self._fetcher.decode(record.data) if record.data.startswith(REFERENCE_PREFIX) else decode(record.data)
            )
        except _UNREADABLE as error:
            return error

    def _select(self, page: ShardPage, decoded: list[Change | CdcError]) -> list[FeedItem]:
        selected, matches = [], self.selection.matches
        for record, arrived, item in zip(page.records, page.arrivals, decoded, strict=True):
            if isinstance(item, CdcError):
                if self.selection.matches_unreadable(arrived):
                    selected.append(FeedItem(page.shard, record, arrived, None, item))
                continue
            known = self.rows.before(item) if self.rows is not None else None
            if self._unknown_columns.needs_rows and self.selection.matches_table(item):
                self._unknown_columns.check(item)
            if matches(item):
                selected.append(FeedItem(page.shard, record, arrived, item, None, known))
        return selected
