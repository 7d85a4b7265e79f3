"""``cdcctl init``: asks a few questions and writes ``cdc.toml``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.options import config_path, origins_without_file
from cdckit.errors import UsageError
from cdckit.runtime.settings import FILE_NAME, SettingValue, mask_password, resolve

_QUESTIONS: Mapping[str, str] = {
    "dsn": "Connection string of the source, like postgresql://cdc@db.example.com/shop (no password: use PGPASSFILE)",
    "source": "Short id of this source",
    "slot": "Replication slot",
    "stream": "Kinesis data stream",
    "table": "Tables to publish, as globs like public.orders or public.* (empty: all)",
    "data": "Folder of the local satellites",
    "app_prefix": "Prefix of the names of the KCL applications",
}


def init(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; use flags, environment and defaults.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Ask a few questions and write cdc.toml, or the file of --config. Flags provide the default answers.

    Do not put passwords there: libpq reads them from PGPASSFILE or PGPASSWORD. AWS settings also stay where the AWS
    tools look for them.

    Example: [bold]cdcctl init --yes --dsn postgresql://cdc@localhost/shop --stream orders[/]
    """
    path = config_path(context) or Path(FILE_NAME)
    if path.exists() and not force:
        raise UsageError(f"{path} exists", "edit it, or use --force to replace it")
    if not yes and not sys.stdin.isatty():
        raise UsageError("no terminal to ask on", "use --yes, and flags for values that differ from the defaults")
    known = origins_without_file(context)
    answers = {item.name: item.value if yes else _ask(item) for item in known if item.name in _QUESTIONS}
    values = answers | {
        item.name: item.value for item in known if item.name not in answers and item.origin != "default"
    }
    text = _to_toml(values, {item.name: item for item in known})
    resolve({}, {}, text, str(path))  # rejects invalid values before the file is written
    _write(path, text)
    output.print_plain(str(path))
    if mask_password(values.get("dsn", "")) != values.get("dsn", ""):
        output.note(
            f"[yellow]{output.escape(str(path))} contains a password[/] (only you can read it); use PGPASSFILE instead"
        )
    output.note("next: [bold]cdcctl doctor[/] checks every prerequisite, then [bold]cdcctl producer run[/]")


def _ask(item: SettingValue) -> str:
    return output.prompt(_QUESTIONS[item.name], str(item.value)).strip()


def _to_toml(values: Mapping[str, str], known: Mapping[str, SettingValue]) -> str:
    lines = ["# Settings of cdcctl, the producer and the consumers; `cdcctl config show` prints them all."]
    for name, item in known.items():
        if name in values:
            # a JSON string is a valid TOML basic string
            lines += ["", f"# {item.text}", f"{name} = {json.dumps(str(values[name]), ensure_ascii=False)}"]
    lines += [
        "",
        "# the options of a satellite are in a table of its name, like [consumers.search]: see docs/",
        "",
    ]
    return "\n".join(lines)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)  # the connection string may contain a password
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error}", "set --config to a file in a writable folder") from error
