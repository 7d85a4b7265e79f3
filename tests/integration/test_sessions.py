"""Sessions own their settings: what a role or a database sets by default changes nothing that is read."""

from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest

from cdckit.errors import SourceError
from producer.postgres.connection import Source
from tests.support.postgres import Database

pytestmark = pytest.mark.integration
ROLE = "cdc_limited"


@pytest.fixture
def limited(postgres: Database) -> Iterator[str]:
    """The connection string of a role that row level security applies to, with defaults that would break reading."""
    postgres.run(
        f"CREATE ROLE {ROLE} LOGIN PASSWORD 'p' NOBYPASSRLS",
        *(
            f"ALTER ROLE {ROLE} SET {setting}"
            for setting in (
                "statement_timeout = '1ms'", "lock_timeout = '1ms'", "client_encoding = 'LATIN1'", "row_security = on",
                "standard_conforming_strings = off", "extra_float_digits = 0", "IntervalStyle = 'iso_8601'",
            )
        ),
        "CREATE TABLE secret (id integer PRIMARY KEY, v text)",
        "INSERT INTO secret SELECT i, 'é' FROM generate_series(1, 10) i",
        "ALTER TABLE secret ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY first_three ON secret USING (id <= 3)",
        f"GRANT SELECT ON secret TO {ROLE}",
    )  # fmt: skip
    parts = {**psycopg2.extensions.parse_dsn(postgres.dsn), "user": ROLE, "password": "p"}
    yield psycopg2.extensions.make_dsn(**parts)
    postgres.run(f"DROP OWNED BY {ROLE}", f"DROP ROLE {ROLE}")


def test_rows_that_a_policy_hides_are_an_error_and_never_a_smaller_table(limited: str) -> None:
    with closing(Source(limited)) as source:
        with pytest.raises(SourceError, match="row-level security"):
            source.copy("SELECT id FROM ONLY secret", lambda _lines: None)
        with pytest.raises(SourceError, match="row-level security"):
            source.query("SELECT count(*) FROM secret")


def test_the_role_s_defaults_change_nothing(limited: str) -> None:
    with closing(Source(limited)) as source:
        statement = "SELECT pg_sleep(0.05), 0.1::float8 + 0.2::float8, interval '1 day 2 hours'::text, 'é\\'"
        [(_, total, interval, text)] = source.query(statement)
        assert (total, interval, text) == (0.30000000000000004, "1 day 02:00:00", "é\\")


def test_the_connection_string_s_own_options_are_kept(postgres: Database) -> None:
    parts = {**psycopg2.extensions.parse_dsn(postgres.dsn), "options": "-c work_mem=7MB"}
    with closing(Source(psycopg2.extensions.make_dsn(**parts))) as source:
        assert source.query("SHOW work_mem") == [("7MB",)]
