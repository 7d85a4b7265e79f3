"""Which refills DDL asks for, from one look at the catalog after the other, and from rows of older shapes."""

from collections.abc import Iterable

from cdckit.change import Table
from cdckit.envelope import WireColumn, WireRow
from cdckit.relation import Relation, RelationColumn
from producer.schema.tracker import CatalogView, Refill, SchemaTracker

A, B = Table("public", "a"), Table("public", "b")
COLUMNS = (RelationColumn(1, "id", "integer", 23), RelationColumn(2, "v", "text", 25))


def relation(
    table: Table, oid: int, columns: Iterable[RelationColumn] = COLUMNS, key: tuple[str, ...] = ("id",)
) -> Relation:
    return Relation(table, oid, list(columns), key)


def view(*relations: Relation, others: tuple[int, ...] = ()) -> CatalogView:
    """A catalog with these tables; `others` are OIDs that exist but cannot be decoded."""
    by_name = {one.table: one for one in relations}
    oids = {one.oid for one in relations} | set(others)
    return CatalogView(by_name, by_name.__contains__, oids.__contains__)


def wants(refills: Iterable[Refill]) -> set[tuple[str, bool]]:
    return {(refill.table.name, refill.reset) for refill in refills}


def test_the_first_look_asks_for_nothing_and_a_new_table_neither() -> None:
    tracker = SchemaTracker()
    assert tracker.look(view(relation(A, 1))) == ()
    assert tracker.look(view(relation(A, 1), relation(B, 2))) == []


def test_a_renamed_table_is_forgotten_under_its_old_name() -> None:
    tracker = SchemaTracker()
    tracker.look(view(relation(A, 1)))
    assert wants(tracker.look(view(relation(B, 1)))) == {("a", True), ("b", True)}


def test_two_tables_that_swap_their_names_are_both_filled_again() -> None:
    tracker = SchemaTracker()
    tracker.look(view(relation(A, 1), relation(B, 2)))
    tracker.look(view(relation(B, 1), relation(A, 2)))
    assert wants(tracker.pending.values()) == {("a", True), ("b", True)}


def test_a_dropped_table_is_forgotten_but_not_one_that_is_merely_not_decoded() -> None:
    tracker = SchemaTracker()
    tracker.look(view(relation(A, 1), relation(B, 2)))
    assert wants(tracker.look(view(relation(A, 1)))) == {("b", True)}
    assert wants(tracker.look(view(others=(1,)))) == set(), "SET UNLOGGED: it exists"


def test_a_table_that_is_not_published_is_not_filled() -> None:
    tracker = SchemaTracker(wanted=lambda table: table != A)
    tracker.look(view(relation(A, 1), relation(B, 2)))
    assert tracker.look(view(relation(A, 1, key=()), relation(B, 2))) == []


def test_rows_of_an_older_shape_than_the_catalog_s_are_noticed() -> None:
    tracker, now = SchemaTracker(), view(relation(A, 1))
    columns = [WireColumn("id", "integer", 1), WireColumn("v", "text", "x")]
    pk = [WireColumn("id", "integer")]
    fits = WireRow("I", "public", "a", columns=columns, pk=pk)
    keyless = WireRow("I", "public", "a", columns=columns)
    renamed = WireRow("I", "public", "a", columns=[columns[0], WireColumn("old", "text", "x")], pk=pk)
    retyped = WireRow("I", "public", "a", columns=[columns[0], WireColumn("v", "integer", 1)], pk=pk)
    gone = WireRow("I", "public", "z", columns=columns, pk=pk)
    assert wants(tracker.check([fits], now)) == set()
    assert wants(tracker.check([keyless], now)) == {("a", True)}
    assert wants(tracker.check([renamed], now)) == {("a", False)}
    assert wants(tracker.check([retyped], now)) == {("a", False)}
    assert wants(tracker.check([gone], now)) == {("z", True)}


def test_what_is_pending_survives_a_restart_and_is_merged_until_it_is_done() -> None:
    tracker = SchemaTracker()
    tracker.look(view(relation(A, 1)))
    [first] = tracker.look(view(relation(A, 1, key=())))
    restarted = SchemaTracker()
    restarted.restore(tracker.shapes)
    restarted.look(view(relation(A, 1, [COLUMNS[0], RelationColumn(2, "w", "text", 25)], key=())))
    restarted.done(first)
    [merged] = restarted.pending.values()
    assert merged.reset
    assert len(merged.reason.split("; ")) == 2
    restarted.done(merged)
    assert not restarted.pending
