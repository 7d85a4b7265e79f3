"""A Kinesis of one shard that keeps what it is given in a file: for counts that every local AWS is too slow for.

The server is the benchmarks' stub, a process of its own that no kill reaches; the file is read as a consumer reads.
"""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import msgspec
from pybase64 import b64decode

from cdcctl.sandbox.processes import free_port
from cdckit.aggregation import unpack
from consumers.stream.reader import ShardPage
from consumers.stream.record import RawRecord
from consumers.stream.unpack import expand_folded

_ROOT = Path(__file__).parents[2]
SHARD = "shardId-000000000000"


class _Entry(msgspec.Struct):
    Data: str
    PartitionKey: str


class _Request(msgspec.Struct):
    Records: list[_Entry]


_decode = msgspec.json.Decoder(_Request).decode


@dataclass(frozen=True)
class FileStream:
    """Where the server listens, and what it was given."""

    port: int
    file: Path

    @property
    def environ(self) -> dict[str, str]:
        """What points boto3 there."""
        return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}"}

    def pages(self) -> Iterator[ShardPage]:
        """A page a request, aggregated and folded records opened, in the order of arrival."""
        numbers = count(1)
        with self.file.open("rb") as file:
            while head := file.read(8):
                entries = _decode(file.read(int.from_bytes(head))).Records
                records = [
                    row
                    for entry in entries
                    for one in unpack(b64decode(entry.Data), entry.PartitionKey)
                    for row in expand_folded(RawRecord(one.data, one.partition_key, str(next(numbers))))
                ]
                yield ShardPage(SHARD, records, [], 0)


@contextmanager
def file_stream(folder: Path) -> Iterator[FileStream]:
    """Serve one; it ends with the block."""
    made = FileStream(free_port(), folder / "requests")
    command = [sys.executable, "-m", "benchmarks.put_stub", str(made.port), "--file", str(made.file)]
    process = subprocess.Popen(command, cwd=_ROOT)
    try:
        _answering(made.port)
        yield made
    finally:
        process.terminate()
        process.wait()


def _answering(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/count"):
                return
        except OSError:
            assert time.monotonic() < deadline, "the stub does not start"
            time.sleep(0.1)
