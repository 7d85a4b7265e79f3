"""Chooses names for the lake's tables in SQL, where names ignore case: short ones if they are unambiguous."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from consumers.parquet.lake import TableRef
from consumers.parquet.names import path_part

DEFAULT_SCHEMA = "main"
"""DuckDB's default schema: queries need not name it."""


@dataclass(frozen=True, slots=True)
class ViewName:
    """Schema and name of a table's first view; the other two are called ``NAME_changes`` and ``NAME_asof``."""

    schema: str
    name: str


def view_names(refs: Sequence[TableRef]) -> Mapping[TableRef, list[ViewName]]:
    """The names of each table, the shortest first. No two names are equal or differ only by case."""
    taken: set[tuple[str, str]] = set()
    names: dict[TableRef, list[ViewName]] = {ref: [] for ref in refs}
    several = len({ref.source for ref in refs}) > 1
    plain_first = sorted(
        refs, key=lambda ref: (ref.table.schema != "public", path_part(ref.table.name) != ref.table.name)
    )
    for schema_of in (_schema, *([_full_schema] if several else []), _default_schema):
        for ref in plain_first:
            if (
                view := _free_name(schema_of(ref), ref.table.name, taken, forced=schema_of is not _default_schema)
            ) is not None:
                names[ref].insert(0, view)
    return names


def _schema(ref: TableRef) -> str:
    return ref.table.schema


def _full_schema(ref: TableRef) -> str:
    return f"{ref.source}/{ref.table.schema}"


def _default_schema(_ref: TableRef) -> str:
    return DEFAULT_SCHEMA


def _free_name(schema: str, name: str, taken: set[tuple[str, str]], *, forced: bool) -> ViewName | None:
    for candidate in _candidates(name) if forced else [name]:
        views = {
            (schema.casefold(), view.casefold()) for view in (candidate, f"{candidate}_changes", f"{candidate}_asof")
        }
        if not views & taken:
            taken |= views
            return ViewName(schema, candidate)
    return None


def _candidates(name: str) -> Iterator[str]:
    yield name
    yield path_part(name)
    number = 1
    while number := number + 1:
        yield f"{path_part(name)}_x_{number}"
