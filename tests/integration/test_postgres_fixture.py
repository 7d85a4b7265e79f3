"""The fixture's cluster is what the project asks of a source."""

import pytest

from cdckit.errors import SourceError
from producer.postgres.connection import Source
from producer.postgres.slots import create_slot
from tests.support.postgres import Database

pytestmark = pytest.mark.integration


def test_cluster_speaks_wal2json(postgres: Database) -> None:
    assert postgres.query("SHOW wal_level") == [("logical",)]
    postgres.run(f"SELECT pg_create_logical_replication_slot('{postgres.slot}', 'wal2json')")
    assert postgres.query("SELECT plugin FROM pg_replication_slots WHERE slot_name = current_database()") == [
        ("wal2json",)
    ]


def test_a_server_that_does_not_list_wal2json_is_answered_with_the_mend(postgres: Database) -> None:
    """Minor releases from late 2026 on refuse output plugins that are not listed; older ones have no list."""
    if not postgres.query("SELECT 1 FROM pg_settings WHERE name = 'output_plugin_libraries'"):
        pytest.skip("this PostgreSQL has no output_plugin_libraries")
    source = Source(postgres.dsn)
    source.query("SET output_plugin_libraries = pgoutput")
    with pytest.raises(SourceError, match="wal2json") as raised:
        create_slot(source, postgres.slot)
    source.close()
    assert "ALTER SYSTEM SET output_plugin_libraries" in raised.value.hint
