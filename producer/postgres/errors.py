"""Translates psycopg2's errors into SourceError and SlotInUse, each with the command that fixes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2  # noqa: TID251
from psycopg2 import errors as pg_errors  # noqa: TID251

from cdckit.errors import SlotInUse, SourceError
from cdckit.runtime.settings import mask_password
from producer.postgres.dsn import parse_dsn


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Translate psycopg2's errors inside the block; `what` begins the message ("cannot create the slot 'cdc'")."""
    try:
        yield
    except (pg_errors.ObjectInUse, pg_errors.DuplicateObject) as error:  # DuplicateObject: another process created it
        raise SlotInUse(
            f"{what}: {_one_line(error)}",
            "only one producer may read a slot: stop the other one, or use another --slot",
        ) from error
    except pg_errors.InsufficientPrivilege as error:
        hint = _hint(str(error)) or "the user needs REPLICATION (on RDS: GRANT rds_replication TO user)"
        raise SourceError(f"{what}: {_one_line(error)}", hint) from error
    except psycopg2.Error as error:
        raise SourceError(f"{what}: {_one_line(error)}", _hint(str(error))) from error


def unreachable(dsn: str, error: Exception) -> SourceError:
    """Return the error of a connection that failed: names the server, masks the password."""
    where = mask_password(dsn) or "the server that the PG* variables name"
    hint = _hint(str(error)) or "start it, or fix --dsn (CDC_DSN); for a sandbox: cdcctl local up"
    text, password = _one_line(error), parse_dsn(dsn).get("password")
    return SourceError(
        f"cannot connect to PostgreSQL at {where}: {text.replace(password, '***') if password else text}", hint
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _hint(text: str) -> str:
    return next((hint for phrase, hint in _HINTS.items() if phrase in text), "")


_HINTS = {
    "may not be used as an output plugin": "ALTER SYSTEM SET output_plugin_libraries = pgoutput, wal2json; "
    "SELECT pg_reload_conf() (on RDS: in the parameter group)",
    'could not access file "wal2json"': "install it on the server: apt-get install postgresql-NN-wal2json (RDS has it)",
    "logical decoding requires wal_level": "ALTER SYSTEM SET wal_level = logical, then restart the server "
    "(on RDS: rds.logical_replication = 1 in the parameter group, then reboot)",
    "all replication slots are in use": "raise max_replication_slots, or drop an unused slot (cdcctl slot ls)",
    "number of requested standby connections exceeds": "raise max_wal_senders",
    "password authentication failed": "fix the user or password in --dsn (CDC_DSN)",
    "no pg_hba.conf entry": "allow the connection in pg_hba.conf (replication needs a line too)",
    "does not exist": "create it, or fix the name in --dsn (CDC_DSN) or --slot",
}
"""A phrase of PostgreSQL's message, and what fixes it; the first match counts."""
