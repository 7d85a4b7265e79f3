"""From pages of the stream to the changes that somebody wants to see."""

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
from consumers.stream.reader import Page, StreamReader
from consumers.stream.record import RawRecord
from consumers.stream.stop import StopCondition

_ROWS = 10_000
_UNREADABLE = (EnvelopeError, TransientSinkError, ConsumerError)  # the store of an oversized change may be away


class Seen(msgspec.Struct, frozen=True, gc=False):
    """One record: the change in it, or why it is none. `known` is the row before, where it is known."""

    shard: str
    record: RawRecord
    arrived: datetime
    change: Change | None
    error: CdcError | None = None
    known: Mapping[str, Value] | None = None


@dataclass(slots=True)
class Rows:
    """The rows that went by, so that an update can tell what it changed; the last ten thousand."""

    _rows: OrderedDict[str, Mapping[str, Value]] = field(default_factory=OrderedDict)

    def before(self, change: Change) -> Mapping[str, Value] | None:
        """The row as it was before this change, as far as it is known; the change is taken in."""
        if change.op is Op.TRUNCATE:
            self._rows.clear()
            return None
        known = self._rows.pop(change.row_id, None)
        old = change.before if change.before and len(change.before) > len(change.key) else known
        if change.after is not None:
            self._rows[change.row_id] = {**(known or {}), **change.after}
        if len(self._rows) > _ROWS:
            self._rows.popitem(last=False)
        return old


@dataclass(slots=True)
class Feed:
    """The wanted changes of a reader's pages, until the selection's end; `rows` remembers rows for who shows them."""

    reader: StreamReader
    selection: Selection
    rows: Rows | None = None
    ending: StopCondition = field(init=False)
    _strangers: UnknownColumns = field(init=False)
    _fetcher: Fetcher = field(default_factory=Fetcher)

    def __post_init__(self) -> None:
        self.ending = StopCondition(self.selection.until)
        where = self.selection.where
        self._strangers = UnknownColumns(where.columns if where is not None else ())

    def batches(self) -> Iterator[tuple[Page, list[Seen]]]:
        """Each page, and what of it is wanted. Raises StreamError."""
        for page in self.reader.pages():
            read = list(map(self._read, page.records))
            yield page, self._wanted(page, read)
            if self.ending.done(page, (one for one in read if isinstance(one, Change))):
                self.reader.finish(page.shard)
        self._strangers.tell()

    def _read(self, record: RawRecord) -> Change | CdcError:
        try:
            return (
                self._fetcher.decode(record.data) if record.data.startswith(REFERENCE_PREFIX) else decode(record.data)
            )
        except _UNREADABLE as error:
            return error

    def _wanted(self, page: Page, read: list[Change | CdcError]) -> list[Seen]:
        found, takes = [], self.selection.takes
        for record, arrived, one in zip(page.records, page.arrivals, read, strict=True):
            if isinstance(one, CdcError):
                if self.selection.takes_unreadable(arrived):
                    found.append(Seen(page.shard, record, arrived, None, one))
                continue
            known = self.rows.before(one) if self.rows is not None else None
            if self._strangers.wanted and self.selection.of_table(one):
                self._strangers.look(one)
            if takes(one):
                found.append(Seen(page.shard, record, arrived, one, None, known))
        return found
