"""The lake's writer, compared with plain pyarrow without CDC, and its bytes, compared with JSON.

Both sides start from the same changes as bytes, keep numbers exact and end with zstd Parquet on disk. Ours: the
stream's envelopes, decoded as by a consumer, into the sink with its default options, flushed as often as a consumer
does; each flush looks up positions, commits to Delta Lake and syncs to disk. The reference: wal2json's bytes to columns
to pyarrow, in files of the same number of rows, without commits, fsync and positions.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import Row
from cdckit.envelope import VERSION, Metadata, decode, inject
from cdckit.sink import Batch, Received, SinkContext
from consumers.parquet.sink import open_sink
from consumers.worker.shard import MAX_UNFLUSHED

SHARD = "shardId-000000000000"
BATCH = 2_000
_WORDS = ["new", "paid", "shipped", "returned"]


class _Column(msgspec.Struct):
    name: str
    value: Any = None


class _Record(msgspec.Struct):
    action: str
    lsn: str
    timestamp: str
    columns: list[_Column] = []
    identity: list[_Column] = []


_decoder = msgspec.json.Decoder(_Record, float_hook=Decimal)


def rows(quick: bool) -> Iterator[Row]:
    """The writer's throughput and the lake's size, the best of three runs each."""
    plain = changes(60_000 if quick else 400_000)
    stamped = [inject(text, Metadata(VERSION, 1, f"0/{at:X}", 0, "main")) for at, text in enumerate(plain, 1)]
    ours, reference, sizes = [], [], []
    for _ in range(3):
        reference.append(_timed(_reference, plain)[0])
        seconds, size = _timed(_ours, stamped)
        ours.append(seconds)
        sizes.append(size)
    count, json = len(plain), sum(map(len, plain))
    yield Row(
        "parquet.throughput_vs_pyarrow", count / min(ours), count / min(reference), "changes/s",
        note="durable exactly-once commits with default options, decoding included, against pyarrow without either",
    )  # fmt: skip
    yield Row(
        "parquet.bytes_vs_json",
        sizes[-1] / count,
        json / count,
        "bytes/change",
        "lower",
        "every change, compared with its JSON",
    )


def changes(count: int) -> list[bytes]:
    """Inserts, updates and deletes of orders as wal2json writes them; about 500 bytes each."""
    chance = random.Random(7)
    return [_change(chance, at, chance.choices("IUD", (5, 4, 1))[0]) for at in range(count)]


def _change(chance: random.Random, at: int, op: str) -> bytes:
    key = at if op == "I" else chance.randrange(max(1, at))
    clock = f"{at // 1_800_000:02}:{at // 30_000 % 60:02}:{at // 500 % 60:02}.{at % 10**6:06}"
    head = f'"xid":{700 + at},"timestamp":"2026-11-23 {clock}+00"'
    head += f',"lsn":"0/{1000 + at * 100:X}","schema":"public","table":"orders"'
    pk = '"pk":[{"name":"id","type":"bigint"}]'
    identity = f'"identity":[{{"name":"id","type":"bigint","value":{key}}}]'
    if op == "D":
        return f'{{"action":"D",{head},{identity},{pk}}}'.encode()
    columns = (
        f'"columns":[{{"name":"id","type":"bigint","value":{key}}},'
        f'{{"name":"customer_id","type":"integer","value":{chance.randrange(10_000)}}},'
        f'{{"name":"status","type":"text","value":"{chance.choice(_WORDS)}"}},'
        f'{{"name":"total","type":"numeric(12,2)","value":{chance.randrange(10**7)}.{chance.randrange(100):02}}},'
        f'{{"name":"note","type":"text","value":"{chance.getrandbits(160):x}"}},'
        f'{{"name":"created_at","type":"timestamp with time zone","value":"2026-11-23 10:00:00.{at % 10**6:06}+00"}}]'
    )
    return f'{{"action":"{op}",{head},{columns},{identity + "," if op == "U" else ""}{pk}}}'.encode()


def _timed(run: Any, data: Sequence[bytes]) -> tuple[float, int]:
    folder = Path(tempfile.mkdtemp(prefix="cdc-bench-"))
    try:
        start = time.perf_counter()
        run(data, folder)
        return time.perf_counter() - start, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    finally:
        shutil.rmtree(folder)


def _ours(data: Sequence[bytes], folder: Path) -> None:
    sink = open_sink(SinkContext("parquet", SHARD, folder, {}))
    for first in range(0, len(data), BATCH):
        records = data[first : first + BATCH]
        sink.apply(Batch(SHARD, [Received(decode(text), str(first + at)) for at, text in enumerate(records)]))
        if (first + BATCH) % MAX_UNFLUSHED == 0:
            sink.flush()
    sink.flush()
    sink.close()


def _reference(data: Sequence[bytes], folder: Path) -> None:
    for first in range(0, len(data), MAX_UNFLUSHED):
        records = [_decoder.decode(text) for text in data[first : first + MAX_UNFLUSHED]]
        pq.write_table(_table(records), folder / f"{first}.parquet", compression="zstd", compression_level=3)


def _table(records: Sequence[_Record]) -> Any:
    cells: list[dict[str, Any]] = [
        {column.name: column.value for column in record.columns or record.identity} for record in records
    ]
    meta = {
        "action": pa.array([record.action for record in records]),
        "lsn": pa.array([record.lsn for record in records]),
        "timestamp": pa.array([record.timestamp for record in records]).cast(_INSTANT),
    }
    columns = {name: _column([row.get(name) for row in cells], kind) for name, kind in _KINDS.items()}
    return pa.table({**meta, **columns})


def _column(values: list[Any], kind: Any) -> Any:
    return pa.array(values, pa.string()).cast(kind) if kind == _INSTANT else pa.array(values, kind)


_INSTANT = pa.timestamp("us", "UTC")
_KINDS = {
    "id": pa.int64(),
    "customer_id": pa.int32(),
    "status": pa.string(),
    "total": pa.decimal128(12, 2),
    "note": pa.string(),
    "created_at": _INSTANT,
}
