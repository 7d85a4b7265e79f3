"""What was committed, read from a second slot by plain JSON: the producer's code has no part in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from cdckit.change import Op, Table, key_text
from cdckit.position import Lsn, Position
from producer.postgres.connection import Source
from producer.postgres.replication_slot import WAL2JSON_OPTIONS
from producer.postgres.slots import create_slot
from tests.nemesis.checker import Committed

SLOT = "truth"
EPOCH = 1


def open_slots(dsn: str, *slots: str) -> None:
    """Begin to keep what is committed from here on: for the checker, and in the producer's own slot."""
    with closing(Source(dsn)) as source:
        for slot in slots:
            create_slot(source, slot)


def read_truth(dsn: str, slot: str = SLOT) -> list[Committed]:
    """Everything committed since. The slot keeps it: this may be asked again."""
    options = ", ".join(f"'{name}', '{value}'" for name, value in WAL2JSON_OPTIONS.items())
    reading = _Reading()
    with closing(Source(dsn)) as source:
        found = source.query(f"SELECT data FROM pg_logical_slot_peek_changes('{slot}', NULL, NULL, {options})")
    return [change for (text,) in found for change in reading.take(exact(text))]


def exact(text: str | bytes) -> Any:
    """JSON with its numbers as they are written."""
    return json.loads(text, parse_float=Decimal)


@dataclass
class _Reading:
    """Counts the changes of one transaction after another."""

    begun: Mapping[str, Any] = field(default_factory=dict)
    index: int = 0

    def take(self, message: Mapping[str, Any]) -> Iterator[Committed]:
        """The changes of one message: none, one, or two where a key changed. Each row and message counts."""
        action = message["action"]
        if action == "B":
            self.begun, self.index = message, 0
        elif action in "IUDT":
            yield from self._row(message)
        elif action == "M" and message["transactional"]:
            self.index += 1

    def _row(self, message: Mapping[str, Any]) -> Iterator[Committed]:
        old, new = _key(message, "identity"), _key(message, "columns")
        if message["action"] == "U" and old and old != new:
            yield self._change(Op.DELETE, old, message, None)
            yield self._change(Op.INSERT, new, message, None)
        else:
            yield self._change(Op(message["action"]), new or old, message, message)

    def _change(
        self, op: Op, key: Mapping[str, Any], message: Mapping[str, Any], content: Mapping[str, Any] | None
    ) -> Committed:
        position = Position(EPOCH, Lsn.parse(self.begun["lsn"]), self.index)
        self.index += 1
        table = str(Table(message["schema"], message["table"]))
        end = Lsn.parse(self.begun["nextlsn"])
        return Committed(position, op, table, key_text(key), self.begun["xid"], end, content)


def _key(message: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    values = {column["name"]: column["value"] for column in message.get(part, ())}
    return {column["name"]: values[column["name"]] for column in message.get("pk", ()) if column["name"] in values}
