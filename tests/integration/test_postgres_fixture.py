"""The fixture's cluster is what the project asks of a source."""

import pytest

from tests.postgres import Database

pytestmark = pytest.mark.integration


def test_cluster_speaks_wal2json(postgres: Database) -> None:
    assert postgres.query("SHOW wal_level") == [("logical",)]
    postgres.run(f"SELECT pg_create_logical_replication_slot('{postgres.slot}', 'wal2json')")
    assert postgres.query("SELECT plugin FROM pg_replication_slots WHERE slot_name = current_database()") == [
        ("wal2json",)
    ]
