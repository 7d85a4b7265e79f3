"""The replication slot as a stream of wal2json messages, and the only place that acknowledges any of them.

psycopg2 moves the flush position that it reports to the end of the WAL by itself, on a keepalive, once the last flushed
LSN is at or past the last message's start (``pqpath.c``: ``explicitly_flushed_lsn >= last_msg_data_start``). A row of a
transaction that overlapped an acknowledged one starts below that acknowledgement: changes in flight would be given up.
So psycopg2 is never told what is flushed: its own reports carry no flush position (PostgreSQL ignores a zero one), and
the standby status update is written here, on the same libpq connection, which psycopg2 lends as ``pgconn_ptr``.
"""

from __future__ import annotations

import ctypes
import math
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import psycopg2  # noqa: TID251
import psycopg2._psycopg  # noqa: TID251
import psycopg2.extras  # noqa: TID251

from cdckit.errors import SlotInUse, SourceError
from cdckit.position import Lsn
from producer.postgres.connection import connect, translated

_POSTGRES_EPOCH = 946_684_800  # 2000-01-01 in Unix seconds
_STATUS = struct.Struct("!cQQQqB")
_WINDOW = 128 * 1024
_NEAR_SECONDS = 0.003  # at this round trip the window carries 40 MB/s, more than a server decodes
_NEVER = 86_400  # seconds between psycopg2's own reports: ours replace them
BUSY_SECONDS = 6.0
"""How long a slot that is in use is waited for: a killed producer's walsender takes that to notice its socket."""

OPTIONS: Mapping[str, str] = {
    "format-version": "2",
    "include-xids": "1",
    "include-timestamp": "1",
    "include-lsn": "1",
    "include-types": "1",
    "include-pk": "1",
    "include-transaction": "1",
}


class Exported:
    """A slot that was just made, and the snapshot of the database at its very beginning; lost when it is closed."""

    def __init__(self, dsn: str, slot: str) -> None:
        """Make the slot. Raises SourceError when the server is not prepared."""
        self._connection: Any = connect(dsn, connection_factory=psycopg2.extras.LogicalReplicationConnection)
        cursor: Any = self._connection.cursor()
        try:
            with translated(f"cannot create the slot {slot!r}"):
                cursor.execute(f'CREATE_REPLICATION_SLOT "{slot}" LOGICAL wal2json EXPORT_SNAPSHOT')
                _, point, self.snapshot, _ = cursor.fetchone()
        except BaseException:
            self.close()
            raise
        self.point = Lsn.parse(point)
        """Every transaction that the slot will send commits here or later; all others are in the snapshot."""

    def close(self) -> None:
        """Give the snapshot up; the slot stays."""
        self._connection.close()


class SlotReader:
    """Reads one slot. Not thread-safe: one thread reads and acknowledges."""

    def __init__(self, dsn: str, slot: str, busy_seconds: float = BUSY_SECONDS) -> None:
        """Connect and start streaming. Raises SlotInUse when another process streams from it after `busy_seconds`."""
        self.slot, self.drained = slot, False
        self._libpq = _libpq()
        self._connection: Any = connect(dsn, connection_factory=psycopg2.extras.LogicalReplicationConnection)
        cursor: Any = self._connection.cursor()
        self._cursor = cursor
        self._read_message: Callable[[], Any] = cursor.read_message
        try:
            _narrow(self.fileno())
            self._start_patiently(busy_seconds)
        except BaseException:
            self.close()
            raise

    def messages(self, most: int) -> Sequence[bytes]:
        """The messages of wal2json that have arrived, `most` at the most; `drained` tells whether that was all.

        Raises SourceError when the connection broke; what was read before that comes again.
        """
        try:
            read = [message.payload for message in islice(iter(self._read_message, None), most)]
        except psycopg2.Error:
            with translated(f"reading the slot {self.slot!r} failed"):
                raise
        self.drained = len(read) < most
        return read

    def fileno(self) -> int:
        """The socket, for `select`."""
        return int(self._connection.fileno())

    def wait(self, seconds: float, *others: int) -> None:
        """Block until a message, one of the other file descriptors, or the time."""
        select.select([self.fileno(), *others], [], [], seconds)

    @property
    def wal_end(self) -> Lsn:
        """The WAL's end as of the last message or keepalive; all before it that is ours was read."""
        return Lsn(self._cursor.wal_end)

    def acknowledge(self, flushed: Lsn) -> None:
        """Report `flushed` as durable downstream; ``Lsn(0)`` only says that we are alive. Raises SourceError."""
        now = int((time.time() - _POSTGRES_EPOCH) * 1_000_000)
        message = _STATUS.pack(b"r", flushed, flushed, flushed, now, 0)
        connection = self._connection.pgconn_ptr
        sent = self._libpq.PQputCopyData(connection, message, len(message)) == 1
        if not sent or self._libpq.PQflush(connection) != 0:
            raise SourceError(f"acknowledging {flushed} on the slot {self.slot!r} failed: the connection broke")

    def close(self) -> None:
        """Close the connection; the slot stays and keeps what was not acknowledged."""
        self._connection.close()

    def _start_patiently(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self._start()
            except SlotInUse:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _start(self) -> None:
        with translated(f"cannot stream from the slot {self.slot!r}"):
            self._cursor.start_replication(
                slot_name=self.slot, options=dict(OPTIONS), decode=False, status_interval=_NEVER
            )


def _narrow(descriptor: int) -> None:
    """Keep the TCP window small, so that the server's messages travel together.

    The server sends each message by itself (``WalSndWriteData``), and three make a small transaction. Into the window
    that the kernel would open by and by each goes as a packet of its own; behind a closed one they queue up, and go as
    one segment when the reader, who comes now and then, opens it. That halves the walsender's time.
    """
    with closing(socket.socket(fileno=os.dup(descriptor))) as duplicate:
        if duplicate.family == socket.AF_UNIX or _round_trip(duplicate) > _NEAR_SECONDS:
            return
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW)


def _round_trip(peer: socket.socket) -> float:
    """Seconds, as the kernel measured (``tcpi_rtt`` of Linux's ``struct tcp_info``); infinite where it does not say."""
    if not sys.platform.startswith("linux"):
        return math.inf
    info = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 72)
    return int.from_bytes(info[68:72], sys.byteorder) / 1e6


def _libpq() -> ctypes.PyDLL:
    """The libpq that psycopg2 itself is linked to: symbols are looked up through its extension module."""
    library = ctypes.PyDLL(psycopg2._psycopg.__file__)  # PyDLL keeps the GIL: neither call blocks
    library.PQputCopyData.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    library.PQputCopyData.restype = ctypes.c_int
    library.PQflush.argtypes = [ctypes.c_void_p]
    library.PQflush.restype = ctypes.c_int
    return library
