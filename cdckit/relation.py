"""A table's shape: its columns, the key that identifies a row, and whether its changes can be followed; pure.

A row's key is decided here and nowhere else (law 7). The producer reads relations from the catalog
(`producer.postgres.relations`); streaming, snapshots, backfills, repairs, verification and masks all use them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum

import msgspec

from cdckit.change import Table


class Identity(StrEnum):
    """REPLICA IDENTITY, by PostgreSQL's letter: what the WAL holds of an updated or deleted row's old version."""

    DEFAULT = "d"
    FULL = "f"
    INDEX = "i"
    NOTHING = "n"


class RelationColumn(msgspec.Struct, frozen=True, gc=False):
    """One column. `number` is its attnum: it stays when the column is renamed, and is never used again."""

    number: int
    name: str
    type: str
    """As ``format_type`` prints it: quoted where PostgreSQL's rules ask for it."""
    type_oid: int = 0
    not_null: bool = False
    fills_old_rows: bool = False
    """Whether rows older than the column show its default without having been written (``atthasmissing``)."""


class Relation(msgspec.Struct, frozen=True):
    """One table as the catalog describes it.

    Attributes:
        table: Schema and name.
        oid: The table's OID: it stays when the table is renamed or moved to another schema.
        columns: The columns that logical decoding shows, by attnum.
        primary_key: Names of the primary key's columns by attnum; empty for a key that is not checked at once
            (DEFERRABLE): two rows may have it within a transaction.
        identity: The replica identity in force.
        identity_key: Names of the columns of the index of ``REPLICA IDENTITY USING INDEX``, by attnum.
        has_deferrable_key: Whether the table has a primary key that is DEFERRABLE.
        root: The topmost parent of a partition, else the table itself.
        storage: The number of the file that holds the rows: a statement that rewrites every row changes it.

    """

    table: Table
    oid: int
    columns: Sequence[RelationColumn]
    primary_key: Sequence[str] = ()
    identity: Identity = Identity.DEFAULT
    identity_key: Sequence[str] = ()
    has_deferrable_key: bool = False
    root: Table | None = None
    storage: int = 0

    @property
    def key(self) -> Sequence[str]:
        """The names of the columns that identify a row, by attnum; empty when only the whole row does.

        It is what each change of the row shows: the columns of the identity's index where that is chosen, since a
        delete shows no others; else the primary key.
        """
        if self.identity is Identity.INDEX and self.identity_key:
            return self.identity_key
        return self.primary_key

    @property
    def key_columns(self) -> Sequence[RelationColumn]:
        """The key's columns."""
        return [column for column in self.columns if column.name in set(self.key)]

    @property
    def names(self) -> Sequence[str]:
        """The names of all columns, by attnum."""
        return [column.name for column in self.columns]

    @property
    def problem(self) -> str:
        """Why updates and deletes of the table cannot be followed; empty when they can."""
        if self.identity is Identity.NOTHING:
            return "its replica identity is NOTHING: PostgreSQL logs no updates and deletes for decoding"
        if self.identity is Identity.INDEX and not self.identity_key:
            return "the index of its replica identity was dropped: updates and deletes are not decoded"
        if self.identity is Identity.DEFAULT and not self.primary_key:
            if self.has_deferrable_key:
                return "its primary key is DEFERRABLE, which identifies no row: updates and deletes are not decoded"
            return "it has no primary key: updates and deletes are not decoded"
        return ""

    @property
    def fix(self) -> str:
        """The statement that makes updates and deletes followable; empty when they are."""
        if not self.problem:
            return ""
        if self.primary_key:
            return f"ALTER TABLE {self.table} REPLICA IDENTITY DEFAULT"
        return f"ALTER TABLE {self.table} REPLICA IDENTITY FULL"

    def shows(self, name: str) -> RelationColumn | None:
        """The column of this name; None when there is none."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def keyless(self) -> bool:
        """Whether only the whole row identifies a row: equal rows are one row to a satellite."""
        return not self.key

    def same_key(self, other: Relation) -> bool:
        """Whether one row has the same key text under both relations, whatever else changed."""
        return _key_shape(self) == _key_shape(other)


def _key_shape(relation: Relation) -> Sequence[tuple[int, str]]:
    """What a key's text depends on: which columns, in which order, and how their values are written."""
    columns: Collection[RelationColumn] = relation.key_columns or relation.columns
    return [(column.number, _spelling(column.type)) for column in columns]


def _spelling(kind: str) -> str:
    """How a value of the type is written as JSON: all whole numbers alike, all else by the type without its length."""
    name = kind.partition("(")[0].strip()
    return "integer" if name in _WHOLE_NUMBERS else name


_WHOLE_NUMBERS = frozenset(("smallint", "integer", "bigint"))


class ShapeChange(msgspec.Struct, frozen=True):
    """What became of a table between two relations. Column names are (old, new) pairs or names."""

    before: Relation
    after: Relation
    renamed: Sequence[tuple[str, str]] = ()
    retyped: Sequence[str] = ()
    added: Sequence[str] = ()
    dropped: Sequence[str] = ()

    @property
    def moved(self) -> bool:
        """Whether the table has another name or schema."""
        return self.before.table != self.after.table

    @property
    def rebuilt(self) -> bool:
        """Whether it is another table under the same name."""
        return self.before.oid != self.after.oid

    @property
    def rekeyed(self) -> bool:
        """Whether rows have other keys than before: what satellites stored under the old ones must go."""
        return self.rebuilt or not self.before.same_key(self.after)

    @property
    def changes_rows(self) -> bool:
        """Whether existing rows changed although no change of a row is decoded: satellites must be filled again."""
        if self.rekeyed or self.moved or self.renamed or self.dropped:
            return True
        rewritten = self.before.storage != self.after.storage
        filled = any(column.fills_old_rows for column in self.after.columns if column.name in set(self.added))
        return filled or (rewritten and bool(self.added or self.retyped))

    def __bool__(self) -> bool:
        """Whether anything changed that satellites see."""
        columns = self.renamed or self.retyped or self.added or self.dropped
        return bool(columns or self.moved or self.rekeyed)

    def __str__(self) -> str:
        """What changed, in words: ``column name renamed to title, key is now (id)``."""
        parts = [f"renamed to {self.after.table}"] if self.moved else []
        parts += ["dropped and created again"] if self.rebuilt else []
        parts += [f"column {old} renamed to {new}" for old, new in self.renamed]
        parts += [
            f"column {column.name} is now {column.type}" for column in self.after.columns if column.name in self.retyped
        ]
        parts += [f"column {name} added" for name in self.added]
        parts += [f"column {name} dropped" for name in self.dropped]
        if self.rekeyed and not self.rebuilt:
            parts.append(f"the key is now {_key_words(self.after)} (was {_key_words(self.before)})")
        return ", ".join(parts)


def compare(before: Relation, after: Relation) -> ShapeChange:
    """What changed from one relation of a table to the next; false when nothing did.

    Columns are identified by attnum, so a rename is not a drop and an add, and a column that was dropped and added
    again under its name is another column.
    """
    if before.oid != after.oid:
        return ShapeChange(before, after)
    old, new = ({column.number: column for column in relation.columns} for relation in (before, after))
    both = sorted(old.keys() & new.keys())
    return ShapeChange(
        before,
        after,
        [(old[number].name, new[number].name) for number in both if old[number].name != new[number].name],
        [new[number].name for number in both if old[number].type != new[number].type],
        [new[number].name for number in sorted(new.keys() - old.keys())],
        [old[number].name for number in sorted(old.keys() - new.keys())],
    )


def _key_words(relation: Relation) -> str:
    return f"({', '.join(relation.key)})" if relation.key else "the whole row"
