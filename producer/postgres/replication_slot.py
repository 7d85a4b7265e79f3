"""Reads the replication slot as a stream of wal2json messages; the only module that acknowledges any of them.

On a keepalive, psycopg2 moves the flush position that it reports to the end of the WAL by itself, once the last flushed
LSN is at or past the last message's start (``pqpath.c``: ``explicitly_flushed_lsn >= last_msg_data_start``). A row of a
transaction that overlapped an acknowledged one starts below that acknowledgement: changes in flight would be lost. So
psycopg2 never learns what is flushed: its own reports carry no flush position (PostgreSQL ignores a zero one), and this
module writes the standby status update on the same libpq connection, which psycopg2 exposes as ``pgconn_ptr``.
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
from producer.postgres.connection import connect
from producer.postgres.errors import translate_errors

_POSTGRES_EPOCH = 946_684_800  # 2000-01-01 in Unix seconds
_STATUS = struct.Struct("!cQQQqB")
_WINDOW = 128 * 1024
_MAX_ROUND_TRIP = 0.003  # at this round trip the window carries 40 MB/s, more than a server decodes
_NEVER = 86_400  # seconds between psycopg2's own reports, which ours replace
SLOT_WAIT_SECONDS = 6.0
"""How long to wait for a slot that is in use: a killed producer's walsender needs that long to notice its socket."""

WAL2JSON_OPTIONS: Mapping[str, str] = {
    "format-version": "2",
    "include-xids": "1",
    "include-timestamp": "1",
    "include-lsn": "1",
    "include-types": "1",
    "include-pk": "1",
    "include-transaction": "1",
}


class ExportedSnapshot:
    """A newly created slot, and the snapshot of the database at its start, which is lost when this is closed."""

    def __init__(self, dsn: str, slot: str) -> None:
        """Create the slot. Raises SourceError when the server is not prepared."""
        self._connection: Any = connect(dsn, connection_factory=psycopg2.extras.LogicalReplicationConnection)
        cursor: Any = self._connection.cursor()
        try:
            with translate_errors(f"cannot create the slot {slot!r}"):
                cursor.execute(f'CREATE_REPLICATION_SLOT "{slot}" LOGICAL wal2json EXPORT_SNAPSHOT')
                _, consistent_point, self.snapshot, _ = cursor.fetchone()
        except BaseException:
            self.close()
            raise
        self.consistent_point = Lsn.parse(consistent_point)
        """The slot sends every transaction that commits here or later; all others are in the snapshot."""

    def close(self) -> None:
        """Release the snapshot; the slot stays."""
        self._connection.close()


class SlotReader:
    """Reads one slot. Not thread-safe: one thread reads and acknowledges."""

    def __init__(self, dsn: str, slot: str, wait_seconds: float = SLOT_WAIT_SECONDS) -> None:
        """Connect and start streaming. Raises SlotInUse when another process streams from it after `wait_seconds`."""
        self.slot, self.drained = slot, False
        self._libpq = _libpq()
        self._connection: Any = connect(dsn, connection_factory=psycopg2.extras.LogicalReplicationConnection)
        cursor: Any = self._connection.cursor()
        self._cursor = cursor
        self._read_message: Callable[[], Any] = cursor.read_message
        try:
            _limit_receive_window(self.fileno())
            self._start_when_free(wait_seconds)
        except BaseException:
            self.close()
            raise

    def messages(self, max_messages: int) -> Sequence[bytes]:
        """Return the wal2json messages that have arrived, at most `max_messages`; `drained`: those were all.

        Raises SourceError when the connection broke; messages read before that come again.
        """
        try:
            read = [message.payload for message in islice(iter(self._read_message, None), max_messages)]
        except psycopg2.Error:
            with translate_errors(f"reading the slot {self.slot!r} failed"):
                raise
        self.drained = len(read) < max_messages
        return read

    def fileno(self) -> int:
        """Return the socket's descriptor, for `select`."""
        return int(self._connection.fileno())

    def wait(self, seconds: float, *others: int) -> None:
        """Block until a message arrives or another descriptor is readable, at most `seconds`."""
        select.select([self.fileno(), *others], [], [], seconds)

    @property
    def wal_end(self) -> Lsn:
        """The WAL's end as of the last message or keepalive; everything of this slot before it was read."""
        return Lsn(self._cursor.wal_end)

    def acknowledge(self, flushed: Lsn) -> None:
        """Report `flushed` as durable downstream; ``Lsn(0)`` only keeps the connection alive. Raises SourceError."""
        now = int((time.time() - _POSTGRES_EPOCH) * 1_000_000)
        message = _STATUS.pack(b"r", flushed, flushed, flushed, now, 0)
        connection = self._connection.pgconn_ptr
        sent = self._libpq.PQputCopyData(connection, message, len(message)) == 1
        if not sent or self._libpq.PQflush(connection) != 0:
            raise SourceError(f"acknowledging {flushed} on the slot {self.slot!r} failed: the connection broke")

    def close(self) -> None:
        """Close the connection; the slot stays and retains what was not acknowledged."""
        self._connection.close()

    def _start_when_free(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self._start()
            except SlotInUse:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _start(self) -> None:
        with translate_errors(f"cannot stream from the slot {self.slot!r}"):
            self._cursor.start_replication(
                slot_name=self.slot, options=dict(WAL2JSON_OPTIONS), decode=False, status_interval=_NEVER
            )


def _limit_receive_window(descriptor: int) -> None:
    """Limit the TCP receive window, so that the server sends several messages in one segment.

    The server sends each message by itself (``WalSndWriteData``), and a small transaction has three. With the large
    window that the kernel would open in time, each message is a packet of its own. With a small window, messages queue
    up while it is full, and are sent as one segment when the reader empties it. That halves the walsender's time.
    """
    with closing(socket.socket(fileno=os.dup(descriptor))) as duplicate:
        if duplicate.family == socket.AF_UNIX or _round_trip(duplicate) > _MAX_ROUND_TRIP:
            return
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW)


def _round_trip(peer: socket.socket) -> float:
    """Return the kernel's estimate in seconds (``tcpi_rtt`` of Linux's ``struct tcp_info``); infinite without one."""
    if not sys.platform.startswith("linux"):
        return math.inf
    info = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 72)
    return int.from_bytes(info[68:72], sys.byteorder) / 1e6


def _libpq() -> ctypes.PyDLL:
    """Return the libpq that psycopg2 is linked to: symbols are looked up through its extension module."""
    library = ctypes.PyDLL(psycopg2._psycopg.__file__)  # PyDLL keeps the GIL: neither call blocks
    library.PQputCopyData.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    library.PQputCopyData.restype = ctypes.c_int
    library.PQflush.argtypes = [ctypes.c_void_p]
    library.PQflush.restype = ctypes.c_int
    return library
