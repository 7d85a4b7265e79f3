"""The sink of the replica: applies each batch in one transaction, durable on return."""

from __future__ import annotations

from contextlib import ExitStack

from cdckit.errors import UsageError
from cdckit.runtime.extras import extra_needed
from cdckit.sink import Batch, Outcome, Sink, SinkContext
from consumers.replica.dialect import Dialect
from consumers.replica.sqlite import SqliteDialect
from consumers.replica.store import ReplicaStore


def open_sink(context: SinkContext) -> Sink:
    """Open the replica: the PostgreSQL of ``[consumers.replica] dsn``, else SQLite in the context's folder.

    A replay's shadow is always in SQLite, because it must not write to the live replica. Raises UsageError on an
    invalid option, SatelliteError when the database cannot be opened.
    """
    unknown = sorted(set(context.options) - {"dsn", "flush_seconds"})
    if unknown:
        raise UsageError(f"[consumers.{context.consumer}] has the unknown key {unknown[0]!r}", "known: dsn")
    dsn = context.options.get("dsn", "")
    if not isinstance(dsn, str):
        raise UsageError(f"[consumers.{context.consumer}] dsn must be a string", 'write dsn = "postgresql://…"')
    if dsn and not context.shadow:
        with extra_needed("replica-postgres"):
            from consumers.replica.postgres import PostgresDialect  # noqa: PLC0415 -- only this kind needs psycopg2

        return ReplicaSink(PostgresDialect(dsn))
    return EmbeddedReplicaSink(SqliteDialect(context.folder))


class ReplicaSink:
    """Buffers nothing: `flush` only reports the outcome."""

    def __init__(self, dialect: Dialect) -> None:
        """Take over the dialect and its connection: `close` closes it."""
        with ExitStack() as on_error:
            on_error.callback(dialect.close)
            self._store, self._done = ReplicaStore(dialect), Outcome()
            on_error.pop_all()

    def apply(self, batch: Batch) -> None:
        """Apply the batch; durable on return. Raises TransientSinkError when the database is busy or not reachable."""
        self._done += self._store.apply(batch.changes)

    def flush(self) -> Outcome:
        """Report the outcome since the last flush."""
        done, self._done = self._done, Outcome()
        return done

    def close(self) -> None:
        """Close the connection."""
        self._store.close()


class EmbeddedReplicaSink(ReplicaSink):
    """A replica in a file on this host."""

    def __init__(self, dialect: SqliteDialect) -> None:
        """Set `embedded_in`, see `cdckit.sink.Embedded`."""
        super().__init__(dialect)
        self.embedded_in = dialect.folder
