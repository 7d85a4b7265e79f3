"""One shard's process of the lake's kill test: tails the shard's file, writes the lake, keeps a mark, until END.

`python -m tests.chaos.lake_writer FOLDER SHARD OWNER` follows the shard, `… FOLDER tidy` merges files again and again.
As under the KCL, only the lease's owner may set the mark, and it learns that it lost it only when it tries.
"""

import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from cdckit.envelope import decode
from cdckit.errors import SatelliteError
from cdckit.sink import Batch, Received, SinkContext
from consumers.parquet.lake import Lake
from consumers.parquet.maintain.compaction import CompactionPolicy, compact_table
from consumers.parquet.sink import open_sink

END = b"END"


def give_lease(folder: Path, shard: str, owner: str) -> None:
    """Whoever owned the shard before learns it at its next mark."""
    _replace(folder / f"{shard}.owner", owner)


def set_mark(folder: Path, shard: str, owner: str, lines: int) -> None:
    """Checkpoint; ends the process when the lease is another's."""
    if (folder / f"{shard}.owner").read_text() != owner:
        sys.exit(f"the lease of {shard} is another's now")
    _replace(folder / f"{shard}.mark", str(lines))


def _replace(path: Path, text: str) -> None:
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(text)
    part.replace(path)


def follow(folder: Path, shard: str, owner: str) -> None:
    """Write what the shard's file gets until its END."""
    mark = folder / f"{shard}.mark"
    at = int(mark.read_text()) if mark.exists() else 0
    sink = open_sink(SinkContext("parquet", shard, folder / "lake", {"compact": False}))
    with (folder / f"{shard}.jsonl").open("rb") as stream:
        for lines in _lines(stream, at):
            records = [line for line in lines if line != END]
            if records:
                sink.apply(Batch(shard, [Received(decode(line), str(at + n)) for n, line in enumerate(records, 1)]))
                sink.flush()
                at += len(records)
                set_mark(folder, shard, owner, at)
            if END in lines:
                return
            time.sleep(random.uniform(0.005, 0.05))


def _lines(stream: IO[bytes], first: int) -> Iterator[list[bytes]]:
    """What the file has got since the last look, whole lines only: readlines() may give one in two parts."""
    rest = b""
    while True:
        whole, end, rest = (rest + stream.read()).rpartition(b"\n")
        lines = whole.split(b"\n") if end else []
        yield lines[first:]
        first = max(0, first - len(lines))


def merge(folder: Path) -> None:
    """Merge the files of all tables for ever."""
    lake = Lake.at(folder / "lake")
    while True:
        try:
            for ref in lake.tables():
                compact_table(lake, ref, CompactionPolicy())
        except SatelliteError:
            time.sleep(0.05)


if __name__ == "__main__":
    place, name = Path(sys.argv[1]), sys.argv[2]
    if name == "tidy":
        merge(place)
    else:
        follow(place, name, sys.argv[3])
