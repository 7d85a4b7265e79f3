"""A table's shape: which columns identify a row, what cannot be followed, and what changed between two shapes."""

import pytest

from cdckit.change import Table
from cdckit.relation import Identity, Relation, RelationColumn, compare

T = Table("public", "t")
ID, NAME = RelationColumn(1, "id", "integer"), RelationColumn(2, "name", "text")


def relation(*columns: RelationColumn, table: Table = T, oid: int = 7, **more: object) -> Relation:
    return Relation(table, oid, columns or (ID, NAME), **{"primary_key": ("id",), **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "key", "problem"),
    [
        (relation(), ["id"], ""),
        (relation(identity=Identity.FULL), ["id"], ""),
        (relation(identity=Identity.INDEX, identity_key=("name",)), ["name"], ""),
        (relation(identity=Identity.INDEX), ["id"], "index"),
        (relation(identity=Identity.NOTHING), ["id"], "NOTHING"),
        (relation(primary_key=()), [], "no primary key"),
        (relation(primary_key=(), has_deferrable_key=True), [], "DEFERRABLE"),
        (relation(primary_key=(), identity=Identity.FULL), [], ""),
    ],
)
def test_the_key_and_what_cannot_be_followed(shape: Relation, key: list[str], problem: str) -> None:
    assert list(shape.key) == key
    assert problem in shape.problem
    assert bool(shape.problem) == bool(problem) == bool(shape.fix)


def test_the_same_shape_is_no_change() -> None:
    assert not compare(relation(), relation())
    assert not compare(relation(), relation(storage=9)).changes_rows, "VACUUM FULL moves the rows to another file"


def test_a_renamed_column_is_neither_dropped_nor_added() -> None:
    change = compare(relation(), relation(ID, RelationColumn(2, "title", "text")))
    assert list(change.renamed) == [("name", "title")]
    assert not change.added
    assert not change.dropped
    assert change.changes_rows
    assert not change.rekeyed
    assert "name renamed to title" in str(change)


def test_a_column_of_an_old_name_with_another_number_is_another_column() -> None:
    change = compare(relation(), relation(ID, RelationColumn(3, "name", "text")))
    assert (list(change.dropped), list(change.added)) == (["name"], ["name"])


@pytest.mark.parametrize(("fills", "expected"), [(True, True), (False, False)])
def test_an_added_column_changes_rows_only_where_old_rows_show_it(fills: bool, expected: bool) -> None:
    added = RelationColumn(3, "channel", "text", fills_old_rows=fills)
    assert compare(relation(), relation(ID, NAME, added)).changes_rows is expected


@pytest.mark.parametrize(
    ("after", "rekeyed"),
    [
        (relation(RelationColumn(1, "id", "bigint"), NAME), False),
        (relation(RelationColumn(1, "id", "text"), NAME), True),
        (relation(primary_key=("name",)), True),
        (relation(primary_key=()), True),
        (relation(identity=Identity.INDEX, identity_key=("name",)), True),
        (relation(oid=8), True),
        (relation(RelationColumn(1, "number", "integer"), NAME, primary_key=("number",)), False),
    ],
)
def test_which_changes_give_rows_other_keys(after: Relation, rekeyed: bool) -> None:
    assert compare(relation(), after).rekeyed is rekeyed
