"""Data files: an Arrow table as Parquet, durable before any commit names it, and what the commit says of it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction

from consumers.parquet import durable
from consumers.parquet.lake import Lake, TableRef

ROW_GROUP = 128 * 1024
COMPRESSION_LEVEL = 3
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_json = msgspec.json.Encoder()


def store(lake: Lake, ref: TableRef, table: Any, partition: str | None, measured: Sequence[str]) -> list[AddAction]:
    """Write the table as one file a value of the column `partition` (None: one file); durable on return.

    The values of the columns `measured` are described by their lowest and highest, so that readers skip files.
    """
    parts = [(None, table)] if partition is None else _parts(table, partition)
    return [_store(lake, ref, part, partition, value, measured) for value, part in parts]


def filesystem(lake: Lake, ref: TableRef) -> Any:
    """The table's folder as a file system of Arrow's."""
    if lake.is_local:
        return pafs.SubTreeFileSystem(lake.uri(ref), pafs.LocalFileSystem())
    return pafs.PyFileSystem(DeltaStorageHandler(lake.uri(ref), dict(lake.storage)))


def _parts(table: Any, partition: str) -> list[tuple[Any, Any]]:
    values = table[partition]
    found = [(value, pc.equal(values, value)) for value in pc.unique(pc.drop_null(values))]
    parts = [
        (value.as_py(), table if len(found) == 1 and not values.null_count else table.filter(rows))
        for value, rows in found
    ]
    return parts + ([(None, table.filter(pc.is_null(values)))] if values.null_count else [])


def _store(
    lake: Lake, ref: TableRef, table: Any, partition: str | None, value: Any, measured: Sequence[str]
) -> AddAction:
    text = None if value is None else str(value)
    folder = "" if partition is None else f"{partition}={_NULL_PARTITION if text is None else quote(text, safe='')}/"
    path = f"{folder}part-{uuid.uuid4()}.zstd.parquet"
    content = _parquet(table if partition is None else table.drop_columns([partition]))
    if lake.is_local:
        _write_durably(Path(lake.uri(ref)) / path, content)
    else:
        with filesystem(lake, ref).open_output_stream(path) as out:
            out.write(content)
    now = int(datetime.now(UTC).timestamp() * 1000)
    values = {} if partition is None else {partition: text}
    return AddAction(path, content.size, values, now, True, _statistics(table, measured))


def _parquet(table: Any) -> Any:
    out = pa.BufferOutputStream()
    distinct = [name for name in table.column_names if name not in ("_position", "_key")]
    pq.write_table(
        table,
        out,
        row_group_size=ROW_GROUP,
        compression="zstd",
        compression_level=COMPRESSION_LEVEL,
        use_dictionary=distinct,
    )
    return out.getvalue()


def _write_durably(path: Path, content: Any) -> None:
    new = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    for folder in (path.parent, path.parent.parent)[: 2 if new else 1]:
        durable.sync(folder)


def _statistics(table: Any, measured: Sequence[str]) -> str:
    lowest, highest, nulls = {}, {}, {}
    for name in measured:
        column = table[name]
        nulls[name] = column.null_count
        if column.null_count < len(column):
            ends = pc.min_max(column).as_py()
            lowest[name], highest[name] = _plain(ends["min"], 0), _plain(ends["max"], 1)
    return _json.encode(
        {"numRecords": table.num_rows, "minValues": lowest, "maxValues": highest, "nullCount": nulls}
    ).decode()


def _plain(value: Any, up: int) -> Any:
    # Delta's timestamps are in milliseconds: the range must not become narrower.
    if not isinstance(value, datetime):
        return value
    whole = value.replace(microsecond=value.microsecond // 1000 * 1000) + timedelta(milliseconds=up)
    return whole.isoformat(timespec="milliseconds").replace("+00:00", "Z")
