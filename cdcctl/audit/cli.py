"""``cdcctl audit``: queries the audit log. The commands that verify and maintain it are in `proof`."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from cdcctl import output
from cdcctl.audit import proof
from cdcctl.audit.proof import options
from cdcctl.options import current_settings
from cdcctl.timespec import parse_time
from cdckit.change import Op, Table
from cdckit.errors import UsageError
from consumers.audit import query as log

app = typer.Typer(no_args_is_help=True, help="Query and verify the audit log.")
_FIELDS = (
    "position", "commit_time", "op", "table", "key", "xid", "annotation", "changed", "key_change", "shard",
    "sequence_number",
)  # fmt: skip


class AuditFormat(StrEnum):
    """Output format of the entries."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


AuditOutput = Annotated[AuditFormat, typer.Option("--output", "-o", help="Format; redirect parquet to a file.")]
_STYLES = {Op.INSERT: "green", Op.UPDATE: "yellow", Op.DELETE: "red", Op.TRUNCATE: "bold red"}
_VERBS = {Op.INSERT: "inserted", Op.UPDATE: "updated", Op.DELETE: "deleted", Op.TRUNCATE: "truncated"}


@app.command()
def history(
    context: typer.Context,
    table_name: Annotated[str, typer.Argument(metavar="TABLE", help="The table, as schema.table.")],
    key: Annotated[str, typer.Argument(help='The key: 42, some-text, or a JSON array for a composite key: ["a", 1]')],
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="Show the row as of this time instead of its changes.")
    ] = None,
    output_format: AuditOutput = AuditFormat.TABLE,
) -> None:
    """Show one row's changes as a timeline, or the row as of a time.

    Example: [bold]cdcctl audit history public.orders 42 --as-of 2026-11-23T10:00:00Z[/]
    """
    settings = current_settings(context)
    folder, audit_options = settings.satellite("audit"), options(context)
    row = log.RowRef(settings.source, _table(table_name), _key(key))
    if as_of is not None:
        state = log.as_of(folder, row, parse_time(as_of), audit_options)
        if output_format is not AuditFormat.TABLE:
            output.print_json({"row": state})
        else:
            output.print_table(
                ["column", "value"], list((state or {}).items()), title="" if state else "the row did not exist"
            )
        return
    _print(log.history(folder, row, audit_options), output_format)


@app.command()
def tx(
    context: typer.Context,
    xid: Annotated[int, typer.Argument(help="The transaction id.")],
    output_format: AuditOutput = AuditFormat.TABLE,
) -> None:
    """Show one transaction's changes.

    Example: [bold]cdcctl audit tx 7513[/]
    """
    _print(log.transaction(current_settings(context).satellite("audit"), xid, options(context)), output_format)


@app.command()
def search(
    context: typer.Context,
    table_name: Annotated[
        str | None, typer.Option("--table", metavar="TABLE", help="Only this table, as schema.table.")
    ] = None,
    actor: Annotated[str | None, typer.Option(help="Only changes by this actor (from the annotation).")] = None,
    column: Annotated[str | None, typer.Option(help="Only changes to this column.")] = None,
    since: Annotated[str | None, typer.Option(help="From this time: 10m, 2026-11-23T10:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this time: 10m, 2026-11-23T10:00:00Z.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Number of entries, newest first.")] = 20,
    output_format: AuditOutput = AuditFormat.TABLE,
) -> None:
    """Find changes by actor, table, column and time, newest first.

    Example: [bold]cdcctl audit search --actor alice --table public.orders --since 1d --column total[/]
    """
    criteria = log.EntryFilter(
        None if table_name is None else _table(table_name), actor, column,
        None if since is None else parse_time(since), None if until is None else parse_time(until), None, limit,
    )  # fmt: skip
    _print(log.find(current_settings(context).satellite("audit"), criteria, options(context)), output_format)


for command in (proof.verify, proof.export, proof.seal, proof.expire):
    app.command()(command)
app.add_typer(proof.keys_app, name="key")


def _print(events: list[log.Event], output_format: AuditFormat) -> None:
    if output_format is not AuditFormat.TABLE:
        _write(events, output_format)
        return
    for event in events:
        output.print_text(_headline(event))
        for name, (old, new) in event.changed.items():
            output.print_line(f"    {output.escape(name)}: {_diff(event.op, old, new)}")
    if not events:
        output.note("no matching change in the log")


def _write(events: list[log.Event], output_format: AuditFormat) -> None:
    rows = [_plain(event) for event in events]
    if output_format is AuditFormat.JSON:
        output.print_json(rows)
        return
    flat = [
        {name: output.json_line(value) if isinstance(value, dict) else value for name, value in row.items()}
        for row in rows
    ]
    if output_format is AuditFormat.CSV:
        output.print_csv(_FIELDS, flat)
    else:
        output.print_parquet(_FIELDS, flat)


def _headline(event: log.Event) -> str:
    style, moment = _STYLES[event.op], event.commit_time.astimezone().isoformat(sep=" ", timespec="milliseconds")
    verb = f"{_VERBS[event.op]}{' (its key changed)' if event.key_change else ''}"
    line = f"[dim]{moment}[/]  [{style}]{verb}[/]  [bold]{output.escape(event.table)}[/] {output.escape(event.key)}"
    line += f"  [dim]tx {event.xid}[/]"
    who = ", ".join(f"{name}: {value}" for name, value in (event.annotation or {}).items())
    return line + (f"  [italic magenta]{output.escape(who)}[/]" if who else "")


def _diff(op: Op, old: object, new: object) -> str:
    if op is Op.INSERT:
        return f"[green]{_short(new)}[/]"
    if op is Op.UPDATE:
        return f"[red]{_short(old)}[/] → [green]{_short(new)}[/]"
    return f"[red]{_short(old)}[/]"


def _short(value: object) -> str:
    text = "null" if value is None else " ".join(str(value).split())
    return output.escape(text if len(text) <= 100 else text[:99] + "…")


def _plain(event: log.Event) -> dict[str, Any]:
    changed = {name: {"old": old, "new": new} for name, (old, new) in event.changed.items()}
    return {
        "position": str(event.position), "commit_time": event.commit_time.isoformat(), "op": event.op.value,
        "table": event.table, "key": event.key, "xid": event.xid, "annotation": event.annotation,
        "changed": changed, "key_change": event.key_change, "shard": event.shard,
        "sequence_number": event.sequence_number,
    }  # fmt: skip


def _table(text: str) -> Table:
    try:
        return Table.parse(text)
    except ValueError as error:
        raise UsageError(str(error), "write schema.table") from error


def _key(text: str) -> str:
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = text
    values = parsed if isinstance(parsed, list) else [parsed if isinstance(parsed, int) else text]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))
