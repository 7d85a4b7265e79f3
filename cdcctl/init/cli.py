"""``cdcctl init``: asks a few questions and writes ``cdc.toml``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.options import config_path, unwritten
from cdckit.errors import UsageError
from cdckit.runtime.settings import FILE_NAME, SettingValue, mask_password, resolve

_QUESTIONS: Mapping[str, str] = {
    "dsn": "Connection string of the source, like postgresql://cdc@db.example.com/shop (no password: use PGPASSFILE)",
    "source": "A short id of this source",
    "slot": "Replication slot",
    "stream": "Kinesis data stream",
    "table": "Tables to follow, globs like public.orders or public.* (empty: all)",
    "data": "Folder of the embedded satellites",
    "app_prefix": "Prefix of the KCL applications' names",
}


def init(
    context: typer.Context,
    sure: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask: take flags, environment and defaults.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Ask a few questions and write cdc.toml (or the file of --config); every setting may be given as a flag instead.

    Passwords do not belong there: libpq reads them from PGPASSFILE or PGPASSWORD. AWS's own settings stay where AWS's
    tools look for them.

    Example: [bold]cdcctl init --yes --dsn postgresql://cdc@localhost/shop --stream orders[/]
    """
    path = config_path(context) or Path(FILE_NAME)
    if path.exists() and not force:
        raise UsageError(f"{path} exists", "edit it, or say --force to replace it")
    if not sure and not sys.stdin.isatty():
        raise UsageError("no terminal to ask on", "say --yes, and give what differs from the defaults as flags")
    found = unwritten(context)
    answers = {item.name: item.value if sure else _ask(item) for item in found if item.name in _QUESTIONS}
    chosen = answers | {
        item.name: item.value for item in found if item.name not in answers and item.origin != "default"
    }
    text = _text(chosen, {item.name: item for item in found})
    resolve({}, {}, text, str(path))  # what it could not use is refused before it is written
    _write(path, text)
    output.print_plain(str(path))
    if mask_password(chosen.get("dsn", "")) != chosen.get("dsn", ""):
        output.note(
            f"[yellow]{output.escape(str(path))} holds a password[/] (readable by you alone): PGPASSFILE is its place"
        )
    output.note("next: [bold]cdcctl doctor[/] looks at every prerequisite, then [bold]cdcctl producer run[/]")


def _ask(item: SettingValue) -> str:
    shown = f" [dim]\\[{output.escape(str(item.value))}][/]" if item.value else ""
    output.note(f"{output.escape(_QUESTIONS[item.name])}{shown}")
    line = sys.stdin.readline()
    if not line:
        raise UsageError("the questions were not answered", "say --yes to take the defaults")
    return line.strip() or str(item.value)


def _text(chosen: Mapping[str, str], known: Mapping[str, SettingValue]) -> str:
    lines = ["# Settings of cdcctl, the producer and the consumers; `cdcctl config show` tells what is in force."]
    for name, item in known.items():
        if name in chosen:
            # JSON's strings are TOML's basic strings
            lines += ["", f"# {item.text}", f"{name} = {json.dumps(str(chosen[name]), ensure_ascii=False)}"]
    lines += ["", "# [consumers.search] and the like hold a satellite's own options: see docs/", ""]
    return "\n".join(lines)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)  # a connection string may hold a password all the same
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error}", "name a file in a writable folder with --config") from error
