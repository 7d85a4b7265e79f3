"""Writes the golden files of a new wire version: ``python -m tests.golden``.

It needs PostgreSQL with wal2json. It refuses to replace files that exist: the files of a version that was released stay
as they are, so that a decoder can be held to them. When a golden test fails, fix the encoder or raise the version.
"""

import sys

import psycopg2

from cdckit.envelope import decode
from cdckit.packing import compress
from producer.postgres.replication_slot import WAL2JSON_OPTIONS
from tests.golden import encoding
from tests.support.postgres import running_cluster

_TABLES = '''
CREATE TABLE orders (id integer PRIMARY KEY, customer text, total numeric(30,2), paid boolean, note text, tags text[],
                     data bytea, placed timestamptz);
ALTER TABLE orders ALTER note SET STORAGE EXTERNAL;
CREATE TABLE "Odd Name" ("Key ""q""" text, part bigint, value double precision, PRIMARY KEY ("Key ""q""", part));
CREATE TABLE events (kind text, body jsonb);
ALTER TABLE events REPLICA IDENTITY FULL;
'''
_ANNOTATE = "SELECT pg_logical_emit_message(true, 'cdc.annotation', '{}')"
_TRANSACTIONS = (
    """INSERT INTO orders VALUES (1, 'Ünï "q" \\ 🙂', 12345678901234567890.10, true, repeat('x', 2500),
       '{a,"b c",NULL}', '\\x00ff', '2026-11-28 12:00:00.5+01')""",
    _ANNOTATE.format('{"actor": "alice", "reason": "ticket 4711"}')
    + "; UPDATE orders SET paid = false WHERE id = 1; INSERT INTO orders (id) VALUES (2)",
    "UPDATE orders SET id = 10 WHERE id = 1",
    "DELETE FROM orders WHERE id = 2",
    """INSERT INTO "Odd Name" VALUES ('a/b', -9223372036854775808, 'NaN'), (repeat('k', 300), 1, 0.1)""",
    """INSERT INTO events VALUES ('seen', '{"n": 1.50}'); UPDATE events SET kind = 'read'; DELETE FROM events""",
    _ANNOTATE.format("not JSON") + "; INSERT INTO events VALUES (NULL, NULL)",
    """SELECT pg_logical_emit_message(true, 'outbox', '{"key": "mail-7", "to": "a@example.com"}')""",
    "SELECT pg_logical_emit_message(false, 'outbox', 'outside a transaction')",
    "TRUNCATE orders",
)


def main() -> int:
    """Write the files; 1 when they exist."""
    if encoding.FOLDER.exists():
        sys.stderr.write(f"error: {encoding.FOLDER} exists, and golden files are never replaced\n")
        return 1
    messages = _messages()
    records = encoding.records(messages)
    rows = encoding.snapshot_rows()
    body = compress(records[0].data)
    decoded = [encoding.as_json(decode(record.data)) for record in records]
    files = {
        "messages.jsonl": b"\n".join(messages) + b"\n",
        "records.jsonl": b"\n".join(record.data for record in records) + b"\n",
        "partition_keys.txt": "".join(f"{record.partition_key}\n" for record in records).encode(),
        "decoded.jsonl": b"\n".join(decoded) + b"\n",
        "compressed.gz": body,
        "folded.gz": compress(rows),
        "folded.jsonl": rows,
        "aggregated.kpl": encoding.aggregated(records),
        "reference.json": encoding.claim_check_of(records[0], body),
        "oversized.json.gz": body,
    }
    encoding.FOLDER.mkdir()
    for name, content in files.items():
        (encoding.FOLDER / name).write_bytes(content)
    return 0


def _messages() -> list[bytes]:
    """What a real slot gives for the transactions above."""
    options = ", ".join(f"'{name}', '{value}'" for name, value in WAL2JSON_OPTIONS.items())
    with running_cluster() as cluster:
        connection = psycopg2.connect(cluster.dsn)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(_TABLES)
            cursor.execute("SELECT pg_create_logical_replication_slot('golden', 'wal2json')")
            for transaction in _TRANSACTIONS:
                cursor.execute(f"BEGIN; {transaction}; COMMIT")
            cursor.execute(f"SELECT data FROM pg_logical_slot_get_changes('golden', NULL, NULL, {options})")
            found = [str(text).encode() for (text,) in cursor.fetchall()]
        connection.close()
        return found


if __name__ == "__main__":
    sys.exit(main())
