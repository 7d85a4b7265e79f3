"""The replica's sink: each batch one transaction, durable when it returns."""

from __future__ import annotations

from contextlib import ExitStack

from cdckit.errors import UsageError
from cdckit.sink import Batch, Outcome, Sink, SinkContext
from consumers.replica.dialect import Dialect
from consumers.replica.postgres import PostgresDialect
from consumers.replica.sqlite import SqliteDialect
from consumers.replica.store import Store


def open_sink(context: SinkContext) -> Sink:
    """Open the replica: ``[consumers.replica] dsn`` names a PostgreSQL, else it is SQLite in the context's folder.

    A replay's shadow is always SQLite: it must not write to the live replica.

    Raises UsageError on an option that is none, SatelliteError when the database does not open.
    """
    unknown = sorted(set(context.options) - {"dsn", "flush_seconds"})
    if unknown:
        raise UsageError(f"[consumers.{context.consumer}] has the unknown key {unknown[0]!r}", "known: dsn")
    dsn = context.options.get("dsn", "")
    if not isinstance(dsn, str):
        raise UsageError(f"[consumers.{context.consumer}] dsn must be a string", 'write dsn = "postgresql://…"')
    if dsn and not context.shadow:
        return ReplicaSink(PostgresDialect(dsn))
    return EmbeddedReplicaSink(SqliteDialect(context.folder))


class ReplicaSink:
    """Nothing is buffered, so flush() only says what became of it."""

    def __init__(self, dialect: Dialect) -> None:
        """The dialect, with its connection, is the sink's to close."""
        with ExitStack() as on_error:
            on_error.callback(dialect.close)
            self._store, self._done = Store(dialect), Outcome()
            on_error.pop_all()

    def apply(self, batch: Batch) -> None:
        """Durable when this returns. Raises TransientSinkError when the database is busy or away."""
        self._done += self._store.apply(batch.changes)

    def flush(self) -> Outcome:
        """What became of the changes since the last flush."""
        done, self._done = self._done, Outcome()
        return done

    def close(self) -> None:
        """Close the connection."""
        self._store.close()


class EmbeddedReplicaSink(ReplicaSink):
    """A replica in a file of this host."""

    def __init__(self, dialect: SqliteDialect) -> None:
        """See `cdckit.sink.Embedded`."""
        super().__init__(dialect)
        self.embedded_in = dialect.folder
