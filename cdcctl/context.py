"""The settings in force for one command: flags of the root, environment, ``cdc.toml``; and the switch ``-o``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cdckit.errors import UsageError
from cdckit.settings import FILE_NAME, Origin, Settings, resolve


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[Format, typer.Option("--output", "-o", help="Print a table, or JSON for scripts.")]


def load(flags: Mapping[str, str | None]) -> tuple[Settings, list[Origin]]:
    """Read ``cdc.toml`` (``--config``/``CDC_CONFIG``, else the working folder's) and resolve all settings."""
    named = flags.get("config") or os.environ.get("CDC_CONFIG")
    path = Path(named or FILE_NAME)
    try:
        text = path.read_text(encoding="utf-8") if named or path.exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}", "name an existing file with --config") from error
    return resolve(flags, os.environ, text, str(path))


def settings(context: typer.Context) -> Settings:
    """The settings that the root command resolved for this call."""
    found = context.find_root().obj
    assert isinstance(found, Settings)
    return found
