"""The interface of a search engine: requests and results, and Protocols for writers, readers and generations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cdckit.change import Change, Table, Value
from cdckit.position import Position
from cdckit.rows import RowState
from cdckit.sink import Outcome
from consumers.search.language import Query
from consumers.search.mapping import IndexMapping


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One search. `facets` are columns whose values are counted over all matching documents."""

    query: Query
    table: Table | None = None
    limit: int = 10
    offset: int = 0
    facets: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """One matching document. `snippet` is safe HTML with the matches in ``<mark>``; a higher `score` is better."""

    source: str
    table: str
    key: str
    values: Mapping[str, Value]
    commit_time: str
    score: float
    snippet: str


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One page of hits, best first, of `total` matching documents. `facets` maps column -> value -> documents."""

    total: int
    hits: Sequence[Hit]
    facets: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IndexStats:
    """What the index contains. `documents` can be found; `filtered` ones are stored, but hidden by filter or transform.

    `partial` documents lack columns, because the change that carried them was never received. `newest_commit` is the
    commit time of the newest applied change.
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
    """One row as an index stores it. Tombstones and filtered rows are stored too."""

    source: str
    table: Table
    key: str
    state: RowState
    commit_time: str


@dataclass(frozen=True, slots=True)
class TableWatermark:
    """One table's truncate watermark (a position's sort key), its known columns, and its newest commit time."""

    source: str
    table: Table
    position: str
    columns: Sequence[str]
    newest: str


class IndexWriter(Protocol):
    """Applies changes to the generation that is written now; follows when that is replaced."""

    @property
    def mapping(self) -> IndexMapping:
        """The mapping in use: the one with which the index was created."""

    def apply(self, changes: Iterable[Change]) -> Outcome:
        """Accept all changes; durable after `flush`. Raises TransientSinkError, PoisonChange, SatelliteError."""

    def flush(self) -> None:
        """Make all applied changes durable. Raises SatelliteError."""

    def close(self) -> None:
        """Free resources."""


class IndexReader(Protocol):
    """Answers queries from the generation that is read now; follows when that is replaced."""

    def search(self, request: SearchRequest) -> SearchPage:
        """Run a search. Raises UsageError when the engine cannot run it."""

    def stats(self) -> IndexStats:
        """Figures of the index."""

    def documents(self, source: str, table: Table) -> Iterator[tuple[str, Mapping[str, Value], Position]]:
        """Every row of one table, including filtered rows, without excluded columns: key text, values, position."""

    @property
    def mapping(self) -> IndexMapping:
        """The mapping with which this generation was created."""

    def close(self) -> None:
        """Free resources."""


class Generations(Protocol):
    """The generations of one index: creates, fills and switches to a new one while writers and readers continue."""

    def current(self) -> str:
        """The generation that is read. Raises SatelliteError when there is none."""

    def unfinished(self) -> str | None:
        """A newer generation, left by an interrupted reindex, that is written but not read yet; else None."""

    def create(self, mapping: IndexMapping, started: float, origin: str) -> str:
        """Create an empty generation. What an interrupted reindex left is removed first."""

    def metadata(self, generation: str, name: str) -> str:
        """A value stored at its creation: `started` (epoch seconds) or `origin` (what it is filled from)."""

    def writer(self, generation: str) -> IndexWriter:
        """A writer of this generation only."""

    def mapping(self, generation: str) -> IndexMapping:
        """The mapping with which the generation was created."""

    def load(self, generation: str, watermarks: Iterable[TableWatermark], rows: Iterable[StoredRow]) -> int:
        """Merge watermarks and rows of another generation into this one. Returns the number of rows."""

    def watermarks(self, generation: str) -> Sequence[TableWatermark]:
        """The watermark of every table."""

    def rows(self, generation: str, since: float = 0.0) -> Iterator[StoredRow]:
        """Every stored row; with `since` (epoch seconds) at least those that were written at that time or later."""

    def contains(self, generation: str, rows: Iterable[StoredRow]) -> Iterator[bool]:
        """Whether each row is stored in the generation, including tombstones."""

    def switch_writers(self, generation: str) -> None:
        """Make every writer write this generation from now on. No effect if they already do."""

    def switch_readers(self, generation: str) -> None:
        """Make every reader read this generation from now on, and remove all others."""

    def close(self) -> None:
        """Free resources."""
