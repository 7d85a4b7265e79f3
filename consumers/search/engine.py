"""What an engine is, and what questions and answers look like: the border between the satellite and its engines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cdckit.change import Change, Table, Value
from cdckit.position import Position
from cdckit.sink import Outcome
from consumers.search.document import Document
from consumers.search.language import Query
from consumers.search.mapping import IndexMapping


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One search. `facets` are columns whose values are counted over all documents found."""

    query: Query
    table: Table | None = None
    limit: int = 10
    offset: int = 0
    facets: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """One document found. `snippet` is HTML-safe, the words found in ``<mark>``; a higher `score` is better."""

    source: str
    table: str
    key: str
    values: Mapping[str, Value]
    commit_time: str
    score: float
    snippet: str


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One page of hits, best first, of `total` documents found; `facets`: column -> value -> how many of them."""

    total: int
    hits: Sequence[Hit]
    facets: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IndexStats:
    """What the index holds. `documents` can be found; `filtered` are kept but left out by filter or transform.

    `partial` documents lack columns, for the change that carried them was never seen. `newest_commit` is the commit
    time of the newest change applied.
    """

    engine: str
    generation: str
    documents: int
    filtered: int
    tombstones: int
    partial: int
    newest_commit: str | None
    tables: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One row as an index keeps it, tombstones and filtered rows included."""

    source: str
    table: Table
    key: str
    document: Document
    commit_time: str


@dataclass(frozen=True, slots=True)
class TableWatermark:
    """One table's truncate watermark (a position's sort key) and the columns that it is known to have."""

    source: str
    table: Table
    position: str
    columns: Sequence[str]
    newest: str


class IndexWriter(Protocol):
    """Applies changes to the index that is written now, whichever generation that is."""

    @property
    def mapping(self) -> IndexMapping:
        """The mapping that the index was made with, which is the one in use."""

    def apply(self, changes: Iterable[Change]) -> Outcome:
        """Accept all, durable once `flush` has returned. Raises TransientSinkError, PoisonChange, SatelliteError."""

    def flush(self) -> None:
        """All that was applied is durable when it returns. Raises SatelliteError."""

    def close(self) -> None:
        """Free resources."""


class IndexReader(Protocol):
    """Answers from the generation that readers are pointed to; follows when that changes."""

    def search(self, request: SearchRequest) -> SearchPage:
        """Raises UsageError when the engine cannot answer such a request."""

    def stats(self) -> IndexStats:
        """What the index holds."""

    def documents(self, source: str, table: Table) -> Iterator[tuple[str, Mapping[str, Value], Position]]:
        """Every row of one table, filtered ones too, without its excluded columns: key text, values, position."""

    @property
    def mapping(self) -> IndexMapping:
        """The mapping that this generation was made with."""

    def close(self) -> None:
        """Free resources."""


class Generations(Protocol):
    """The indexes side by side: how a new one is made, filled and swapped in while writers and readers go on."""

    def current(self) -> str:
        """The generation that readers use. Raises SatelliteError when there is none."""

    def unfinished(self) -> str | None:
        """A newer generation that writers use already but readers do not: a reindex that was cut off there."""

    def create(self, mapping: IndexMapping, started: float, origin: str) -> str:
        """Make an empty generation; left-overs of a reindex that was cut off are removed."""

    def note(self, generation: str, name: str) -> str:
        """What it was made with: `started` (epoch seconds), `origin` (what it is filled from)."""

    def writer(self, generation: str) -> IndexWriter:
        """Writes just this generation."""

    def mapping(self, generation: str) -> IndexMapping:
        """The mapping that the generation was made with."""

    def load(self, generation: str, floors: Iterable[TableWatermark], rows: Iterable[StoredRow]) -> int:
        """Join watermarks and rows of another generation into this one; how many rows."""

    def floors(self, generation: str) -> Sequence[TableWatermark]:
        """Every table's watermark."""

    def rows(self, generation: str, since: float = 0.0) -> Iterator[StoredRow]:
        """Every row held, or all that were written at `since` (epoch seconds) or later, and perhaps some more."""

    def holds(self, generation: str, rows: Iterable[StoredRow]) -> Iterator[bool]:
        """Whether each row is held there, be it as a tombstone."""

    def turn_writers(self, generation: str) -> None:
        """From now on every writer writes this generation; does nothing when they do already."""

    def turn_readers(self, generation: str) -> None:
        """From now on every reader reads this generation; all others are removed."""

    def close(self) -> None:
        """Free resources."""
