"""What a slot puts on the stream: real PostgreSQL, real wal2json, the producer's own router, no Kinesis."""

from collections.abc import Sequence

from cdckit.change import Change
from cdckit.envelope import decode
from producer.decoding.router import Router
from producer.postgres.connection import Source
from producer.postgres.replication_slot import WAL2JSON_OPTIONS
from producer.postgres.slots import create_slot
from producer.records import Origin


class WalStream:
    """Reads one slot of one database by SQL. `records` and `changes` consume what was committed since the last call."""

    def __init__(self, dsn: str, slot: str, source: str = "main") -> None:
        self.source = Source(dsn)
        self._slot = slot
        self._router = Router(Origin(source, 1, "1", 1, slot))
        create_slot(self.source, slot)

    def records(self) -> list[bytes]:
        """Return the records' bytes, as Kinesis would hold them."""
        options = ", ".join(f"'{name}', '{value}'" for name, value in WAL2JSON_OPTIONS.items())
        query = f"SELECT data FROM pg_logical_slot_get_changes('{self._slot}', NULL, NULL, {options})"
        found: list[bytes] = []
        for (text,) in self.source.query(query):
            found += [record.data for record in self._router.handle(text.encode())]
        return found

    def changes(self) -> Sequence[Change]:
        """Return the changes, as a sink receives them."""
        return [decode(record) for record in self.records()]

    def close(self) -> None:
        self.source.close()
