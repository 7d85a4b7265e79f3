"""Finds out from one look at the catalog after the other what DDL did, and what makes the satellites right; pure.

A satellite has each row as it was when a change of it was last published. DDL changes rows without a change of any:
a renamed column, a default that old rows show, another key. So after DDL a table is *refilled*: its rows are published
again, each at a position above all that it had before. Where rows have other keys than before, or the table has another
name, the old rows are removed first by a *reset*: a truncate that the source never made, at a position below the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from cdckit.change import Table
from cdckit.envelope import WireColumn, WireRow
from cdckit.relation import Relation, compare

_FIRST_USER_OID = 16_384
"""Types below are PostgreSQL's own: their names do not depend on a session's search_path."""


@dataclass(frozen=True, slots=True)
class Refill:
    """What makes one table right in every satellite: its rows are published again, as far as it still exists.

    Attributes:
        table: The table, by the name that its rows have on the stream.
        reason: What happened, for the log and the audit.
        reset: Whether satellites must first forget all rows of the table.

    """

    table: Table
    reason: str
    reset: bool = False

    def merge(self, later: Refill) -> Refill:
        """One refill that does what both do."""
        reasons = dict.fromkeys([*self.reason.split("; "), *later.reason.split("; ")])
        return Refill(self.table, "; ".join(reasons), self.reset or later.reset)


class Shapes(msgspec.Struct, frozen=True):
    """The relations that the last look found, and the refills that are not done yet."""

    relations: Sequence[Relation] = ()
    pending: Sequence[Refill] = ()


@dataclass(frozen=True, slots=True)
class CatalogView:
    """The catalog as it is now: every table that can be decoded, and whether anything of a name or OID exists."""

    relations: Mapping[Table, Relation]
    name_exists: Callable[[Table], bool]
    oid_exists: Callable[[int], bool]


@dataclass(slots=True)
class SchemaTracker:
    """Compares each look at the catalog with the last one; keeps what is still to be done."""

    wanted: Callable[[Table], bool] = lambda _table: True
    """Whether a table is published."""
    known: dict[int, Relation] = field(default_factory=dict)
    """By OID, the relations that the last look found."""
    pending: dict[Table, Refill] = field(default_factory=dict)
    """Refills that are to be done, in the order in which they came up."""

    def restore(self, shapes: Shapes) -> None:
        """Take up what an earlier run stored."""
        self.known = {relation.oid: relation for relation in shapes.relations}
        self.pending = {refill.table: refill for refill in shapes.pending}

    @property
    def shapes(self) -> Shapes:
        """What is to be stored."""
        return Shapes(list(self.known.values()), list(self.pending.values()))

    def look(self, now: CatalogView) -> Sequence[Refill]:
        """Compare with the last look; the refills that DDL between the two asks for.

        The first look of a tracker that knows nothing asks for none: what it finds is what the stream begins with.
        """
        before, self.known = self.known, {relation.oid: relation for relation in now.relations.values()}
        if not before:
            return ()
        names = {relation.table for relation in before.values()}
        found = [refill for oid, after in self.known.items() for refill in _refills(before.get(oid), after, names)]
        found += [
            Refill(relation.table, f"{relation.table} was dropped", reset=True)
            for oid, relation in before.items()
            if oid not in self.known and not now.oid_exists(oid)
        ]
        return self._request(found)

    def check(self, seen: Iterable[WireRow], now: CatalogView) -> Sequence[Refill]:
        """Compare rows that were just published with the catalog; the refills that follow.

        A row of another shape than the catalog's was written before DDL that no look of this tracker saw.
        """
        return self._request(refill for row in seen if (refill := _stale(row, now)) is not None)

    def done(self, refill: Refill) -> None:
        """The refill was carried out; another one of its table that came up meanwhile stays."""
        if self.pending.get(refill.table) == refill:
            del self.pending[refill.table]

    def _request(self, found: Iterable[Refill]) -> Sequence[Refill]:
        asked = [refill for refill in found if self.wanted(refill.table)]
        for refill in asked:
            waiting = self.pending.pop(refill.table, None)
            self.pending[refill.table] = refill if waiting is None else waiting.merge(refill)
        return asked


def _refills(before: Relation | None, after: Relation, names: set[Table]) -> Iterable[Refill]:
    """What one table asks for; `names` are those that tables had at the last look."""
    if before is None:
        if after.table in names:  # the satellites still hold the rows of the table that had this name
            yield Refill(after.table, f"{after.table} was created again", reset=True)
        elif list(after.key) != list(after.primary_key):  # its first rows were published under the printed key
            yield Refill(after.table, f"{after.table} was created; its key is ({', '.join(after.key)})", reset=True)
        return
    change = compare(before, after)
    if not change or not change.changes_rows:
        return
    reason = f"{before.table}: {change}"
    if change.moved:
        yield Refill(before.table, reason, reset=True)
    yield Refill(after.table, reason, reset=change.rekeyed or change.moved)


def _stale(row: WireRow, now: CatalogView) -> Refill | None:
    table = Table(row.schema, row.table)
    relation = now.relations.get(table)
    if relation is None:
        return None if now.name_exists(table) else Refill(table, f"{table} no longer exists", reset=True)
    if row.action == "T":
        return None
    if row.action == "D" and not {*_names(row.pk)} <= {*_names(row.identity)} and list(relation.key) == _names(row.pk):
        return Refill(table, f"{table}: a row was deleted under another replica identity", reset=True)
    if _key_differs(row, relation):
        was, key = (f"({', '.join(names)})" if names else "no key" for names in (_names(row.pk), relation.primary_key))
        return Refill(table, f"{table}: rows were written with the key {was}, it is now {key}", reset=True)
    differing = _differing_columns(row, relation)
    if differing:
        names = ", ".join(differing)
        return Refill(table, f"{table}: rows were written before its columns changed ({names})", relation.keyless)
    return None


def _key_differs(row: WireRow, relation: Relation) -> bool:
    return _names(row.pk) != list(relation.primary_key) or any(_retyped(column, relation) for column in row.pk)


def _differing_columns(row: WireRow, relation: Relation) -> Sequence[str]:
    """Columns that the row has and the table no longer, of another type, or that old rows show without having them."""
    shown = set(_names(row.columns))
    found = [column.name for column in row.columns if relation.shows(column.name) is None or _retyped(column, relation)]
    if row.action == "I":
        found += [one.name for one in relation.columns if one.fills_old_rows and one.name not in shown]
    return found


def _retyped(column: WireColumn, relation: Relation) -> bool:
    now = relation.shows(column.name)
    comparable = bool(column.type) and now is not None and now.type_oid < _FIRST_USER_OID
    return now is not None and comparable and now.type != column.type


def _names(columns: Iterable[WireColumn]) -> list[str]:
    return [column.name for column in columns]
