"""What the lake's tables are called in SQL, whose names ignore case: short where that is unambiguous."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from consumers.parquet.lake import TableRef
from consumers.parquet.names import path_part

DEFAULT_SCHEMA = "main"
"""DuckDB's default schema: what is there needs no schema's name."""


@dataclass(frozen=True, slots=True)
class ViewName:
    """The schema and name of one table's views; the other two faces are ``NAME_changes`` and ``NAME_asof``."""

    schema: str
    name: str


def view_names(refs: Sequence[TableRef]) -> Mapping[TableRef, list[ViewName]]:
    """The names of each table, the shortest first; no two are equal but for case, whatever the tables are called."""
    taken: set[tuple[str, str]] = set()
    names: dict[TableRef, list[ViewName]] = {ref: [] for ref in refs}
    several = len({ref.source for ref in refs}) > 1
    plain_first = sorted(
        refs, key=lambda ref: (ref.table.schema != "public", path_part(ref.table.name) != ref.table.name)
    )
    for schema_of in (_schema, *([_full_schema] if several else []), _home):
        for ref in plain_first:
            if (view := _free(schema_of(ref), ref.table.name, taken, forced=schema_of is not _home)) is not None:
                names[ref].insert(0, view)
    return names


def _schema(ref: TableRef) -> str:
    return ref.table.schema


def _full_schema(ref: TableRef) -> str:
    return f"{ref.source}/{ref.table.schema}"


def _home(_ref: TableRef) -> str:
    return DEFAULT_SCHEMA


def _free(schema: str, name: str, taken: set[tuple[str, str]], *, forced: bool) -> ViewName | None:
    for candidate in _candidates(name) if forced else [name]:
        faces = {
            (schema.casefold(), face.casefold()) for face in (candidate, f"{candidate}_changes", f"{candidate}_asof")
        }
        if not faces & taken:
            taken |= faces
            return ViewName(schema, candidate)
    return None


def _candidates(name: str) -> Iterator[str]:
    yield name
    yield path_part(name)
    number = 1
    while number := number + 1:
        yield f"{path_part(name)}_x_{number}"
