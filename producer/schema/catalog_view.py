"""One look at the catalog of the source."""

from __future__ import annotations

from cdckit.change import Table
from producer.postgres.catalog import shapes
from producer.postgres.connection import Source
from producer.schema.tracker import CatalogView


def read_catalog(source: Source) -> CatalogView:
    """The catalog as it is now; valid while `source` is open. Raises SourceError."""

    def exists(condition: str, *values: object) -> bool:
        return bool(source.query(f"SELECT FROM pg_class c {condition}", values))

    def name_exists(table: Table) -> bool:
        by_name = "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s"
        return exists(by_name, table.schema, table.name)

    return CatalogView(shapes(source), name_exists, lambda oid: exists("WHERE c.oid = %s", oid))
