"""Converts changes of one table to one Arrow table with the lake's schema, ordered by position."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa

from cdckit.change import Change, Value
from consumers.parquet.types.codecs import encode
from consumers.parquet.types.schema import META, PARTITION, LakeSchema

_json = msgspec.json.Encoder(decimal_format="number")


@dataclass(slots=True)
class ChangeGroup:
    """Changes that can be converted together: the same columns in the same order, with the same types."""

    types: Mapping[str, str]
    columns: Sequence[str]
    positions: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    rows: list[Mapping[str, Value]] = field(default_factory=list)

    @property
    def typed_columns(self) -> list[tuple[str, str]]:
        """The columns, each with its PostgreSQL type (empty if the stream did not give it)."""
        return [(name, self.types.get(name, "")) for name in self.columns]


def logged_values(change: Change) -> Mapping[str, Value]:
    """The values that the log stores for a change: the new row, or what the stream contains of a deleted one."""
    if change.after is not None:
        return change.after
    return {**change.key, **(change.before or {})}


def group_changes(changes: Mapping[str, Change]) -> Sequence[ChangeGroup]:
    """Group the changes (by position). Changes of interleaved schema versions still make only a few groups."""
    groups: dict[tuple[str, ...], list[ChangeGroup]] = {}
    for position, change in changes.items():
        row = logged_values(change)
        columns = tuple(row)
        known = groups.setdefault(columns, [])
        group = next((item for item in known if item.types == change.types), None)
        if group is None:
            known.append(group := ChangeGroup(change.types, columns))
        group.positions.append(position)
        group.changes.append(change)
        group.rows.append(row)
    return [group for known in groups.values() for group in known]


def to_arrow(groups: Iterable[ChangeGroup], columns: LakeSchema) -> Any:
    """One Arrow table with the lake's schema, ordered by position."""
    tables = [_table(group, columns) for group in groups]
    ordered_values = len(tables) == 1 and _ascending(tables[0]["_position"].to_pylist())
    return tables[0] if ordered_values else pa.concat_tables(tables).sort_by("_position")


def _ascending(positions: list[str]) -> bool:
    return positions == sorted(positions)


def _table(group: ChangeGroup, columns: LakeSchema) -> Any:
    data = _cells(group, columns)
    data.update(_meta(group))
    if (source := columns.partition_source) is not None:
        data[PARTITION] = _partition(group, source)
    count = len(group.changes)
    arrays = [data[item.name] if item.name in data else pa.nulls(count, item.type) for item in columns.arrow]
    return pa.Table.from_arrays(arrays, schema=columns.arrow)


def _cells(group: ChangeGroup, columns: LakeSchema) -> dict[str, Any]:
    data: dict[str, Any] = {}
    exact: dict[int, dict[str, Value]] = {}
    cells = zip(*(row.values() for row in group.rows), strict=True)
    for (name, pg_type), values in zip(group.typed_columns, cells, strict=False):
        column = columns.find(name, pg_type)
        data[column.name], misfits = encode(column.kind, values)
        for index, value in misfits.items():
            exact.setdefault(index, {})[column.name] = value
    present, count = ",".join(data), len(group.rows)
    data["_columns"] = pa.repeat(pa.scalar(present, pa.string()), count)
    data["_exact"] = pa.array(
        [_text(exact.get(index)) for index in range(count)] if exact else [None] * count, pa.string()
    )
    return data


def _meta(group: ChangeGroup) -> dict[str, Any]:
    changes = group.changes
    times = pa.array([change.commit_time for change in changes], META.field("_commit_time").type)
    return {
        "_op": pa.array([change.op for change in changes], pa.string()),
        "_position": pa.array(group.positions, pa.string()),
        "_commit_time": times,
        "_commit_date": times.cast(pa.date32()),
        "_xid": pa.array([change.xid for change in changes], pa.int64()),
        "_annotation": pa.array([_text(change.annotation) for change in changes], pa.string()),
        "_key": pa.array([change.key_text if change.key else None for change in changes], pa.string()),
    }


def _partition(group: ChangeGroup, source: str) -> Any:
    values = (row.get(source) for row in group.rows)
    return pa.array([None if value in (None, "") else _plain(value) for value in values], pa.string())


def _plain(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _text(value: Mapping[str, object] | None) -> str | None:
    return None if value is None else _json.encode(value).decode()
