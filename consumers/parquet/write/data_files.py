"""Writes an Arrow table as Parquet files that are durable before a commit refers to them, and describes them for it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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

from consumers.parquet.lake import Lake, TableRef
from consumers.storage.files import fsync_path

ROW_GROUP = 128 * 1024
COMPRESSION_LEVEL = 3
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_json = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class FileTarget:
    """Where files of a table are written, its partition column, and the columns with statistics in the commit."""

    lake: Lake
    ref: TableRef
    partition: str | None
    stats_columns: Sequence[str]


def write_files(target: FileTarget, table: Any) -> list[AddAction]:
    """Write one file, or one per value of the partition column; durable on return."""
    if target.partition is None:
        return [_write_file(target, table, {}, "")]
    return [
        _write_file(target, part, {target.partition: text}, f"{target.partition}={_folder(text)}/")
        for text, part in _parts(table, target.partition)
    ]


def filesystem(lake: Lake, ref: TableRef) -> Any:
    """The table's folder as an Arrow file system."""
    if lake.is_local:
        return pafs.SubTreeFileSystem(lake.uri(ref), pafs.LocalFileSystem())
    return pafs.PyFileSystem(DeltaStorageHandler(lake.uri(ref), dict(lake.storage)))


def _parts(table: Any, partition: str) -> Iterator[tuple[str | None, Any]]:
    values = table[partition]
    for value in pc.unique(values):
        here = pc.equal(values, value) if value.is_valid else pc.is_null(values)
        yield str(value) if value.is_valid else None, table.filter(here)


def _folder(text: str | None) -> str:
    return _NULL_PARTITION if text is None else quote(text, safe="")


def _write_file(target: FileTarget, table: Any, values: Mapping[str, str | None], folder: str) -> AddAction:
    path = f"{folder}part-{uuid.uuid4()}.zstd.parquet"
    content = _parquet(table.drop_columns(list(values)))
    if target.lake.bucket is None:
        _write_durably(Path(target.lake.uri(target.ref)) / path, content)
    else:
        target.lake.bucket.put(f"{target.ref.path}/{path}", content.to_pybytes())
    now = int(datetime.now(UTC).timestamp() * 1000)
    return AddAction(path, content.size, values, now, True, _statistics(table, target.stats_columns))


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
        fsync_path(folder)


def _statistics(table: Any, stats_columns: Sequence[str]) -> str:
    lowest, highest, nulls = {}, {}, {}
    for name in stats_columns:
        column = table[name]
        nulls[name] = column.null_count
        if column.null_count < len(column):
            ends = pc.min_max(column).as_py()
            lowest[name], highest[name] = _plain(ends["min"], 0), _plain(ends["max"], 1)
    return _json.encode(
        {"numRecords": table.num_rows, "minValues": lowest, "maxValues": highest, "nullCount": nulls}
    ).decode()


def _plain(value: Any, up: int) -> Any:
    # Delta's timestamps have milliseconds: round outwards, so that the range never gets narrower.
    if not isinstance(value, datetime):
        return value
    whole = value.replace(microsecond=value.microsecond // 1000 * 1000) + timedelta(milliseconds=up)
    return whole.isoformat(timespec="milliseconds").replace("+00:00", "Z")
