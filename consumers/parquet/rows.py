"""Changes of one table -> one Arrow table with the lake's schema, ordered by position."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from cdckit.change import Change, Op, Value
from consumers.parquet.codecs import encode
from consumers.parquet.schema import META, Columns

_json = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class Shape:
    """What changes that can share one columnar conversion have in common: the operation and the columns, typed."""

    op: Op
    columns: tuple[str, ...]
    types: tuple[tuple[str, str], ...]

    @property
    def typed_columns(self) -> list[tuple[str, str]]:
        """The columns of the row, each with its PostgreSQL type (empty where the stream did not say)."""
        types = dict(self.types)
        return [(name, types.get(name, "")) for name in self.columns]


def row_of(change: Change) -> Mapping[str, Value]:
    """The values that the log keeps of a change: the new row, or of a deleted one what the stream said of it."""
    if change.after is not None:
        return change.after
    return {**change.key, **(change.before or {})}


def by_shape(changes: Iterable[Change]) -> Mapping[Shape, Sequence[Change]]:
    """The changes grouped by shape; interleaved schema versions give a few groups, not many."""
    groups: dict[Shape, list[Change]] = {}
    for change in changes:
        shape = Shape(change.op, tuple(row_of(change)), tuple(change.types.items()))
        groups.setdefault(shape, []).append(change)
    return groups


def to_arrow(groups: Mapping[Shape, Sequence[Change]], columns: Columns) -> Any:
    """One Arrow table with the lake's schema, in the order of positions."""
    tables = [_group(shape, changes, columns) for shape, changes in groups.items()]
    return pa.concat_tables(tables).sort_by("_position")


def _group(shape: Shape, changes: Sequence[Change], columns: Columns) -> Any:
    data, exact, present = _values(shape, changes, columns)
    data.update(_meta(changes, present, exact))
    arrays = [data[field.name] if field.name in data else pa.nulls(len(changes), field.type) for field in columns.arrow]
    return pa.Table.from_arrays(arrays, schema=columns.arrow)


def _values(shape: Shape, changes: Sequence[Change], columns: Columns) -> tuple[dict[str, Any], Any, str]:
    cells = zip(*(row_of(change).values() for change in changes), strict=True)
    data: dict[str, Any] = {}
    exact: list[dict[str, Value]] = [{} for _ in changes]
    for (name, pg_type), values in zip(shape.typed_columns, cells, strict=False):
        column = columns.find(name, pg_type)
        data[column.name], misfits = encode(column.kind, values)
        for index, value in misfits.items():
            exact[index][column.name] = value
    texts = [_json.encode(cells).decode() if cells else None for cells in exact]
    return data, pa.array(texts, pa.string()), ",".join(data)


def _meta(changes: Sequence[Change], present: str, exact: Any) -> dict[str, Any]:
    times = pa.array([change.commit_time for change in changes], META.field("_commit_time").type)
    return {
        "_op": pa.array([change.op.value for change in changes], pa.string()),
        "_position": pa.array([change.position.sort_key for change in changes], pa.string()),
        "_commit_time": times,
        "_commit_date": times.cast(pa.date32()),
        "_xid": pa.array([change.xid for change in changes], pa.int64()),
        "_annotation": pa.array([_text(change.annotation) for change in changes], pa.string()),
        "_key": pa.array([change.key_text if change.key else None for change in changes], pa.string()),
        "_columns": pa.array([present] * len(changes), pa.string()),
        "_exact": exact,
    }


def _text(annotation: Mapping[str, object] | None) -> str | None:
    return None if annotation is None else _json.encode(annotation).decode()
