"""``cdcctl audit``: who changed what, when and why, and whether the record is untouched."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from cdcctl import output
from cdcctl.context import Format, Output, settings
from cdcctl.moments import parse_moment
from cdckit.change import Op, Table
from cdckit.errors import SatelliteError, UsageError
from consumers.audit import query as log

app = typer.Typer(no_args_is_help=True, help="Ask the audit log, and verify it.")
_STYLES = {Op.INSERT: "green", Op.UPDATE: "yellow", Op.DELETE: "red", Op.TRUNCATE: "bold red"}
_VERBS = {Op.INSERT: "inserted", Op.UPDATE: "updated", Op.DELETE: "deleted", Op.TRUNCATE: "truncated"}


@app.command()
def history(
    context: typer.Context,
    table_name: Annotated[str, typer.Argument(metavar="TABLE", help="schema.table")],
    key: Annotated[str, typer.Argument(help='42, some-text, or a JSON array for a composite key: ["a", 1]')],
    as_of: Annotated[str | None, typer.Option("--as-of", help="Show the row as it was then instead.")] = None,
    output_format: Output = Format.TABLE,
) -> None:
    """Show one row's changes as a timeline, or the row as of a time.

    Example: [bold]cdcctl audit history public.orders 42 --as-of 2026-11-23T10:00:00Z[/]
    """
    found = settings(context)
    folder, table, wanted = found.satellite("audit"), _table(table_name), _key(key)
    if as_of is not None:
        row = log.as_of(folder, table, wanted, parse_moment(as_of), found.source)
        if output_format is Format.JSON:
            output.print_json({"row": row})
        else:
            output.print_table(
                ["column", "value"], list((row or {}).items()), title="" if row else "the row did not exist"
            )
        return
    _print(log.history(folder, table, wanted, found.source), output_format)


@app.command()
def tx(
    context: typer.Context,
    xid: Annotated[int, typer.Argument(help="The transaction's id.")],
    output_format: Output = Format.TABLE,
) -> None:
    """Show one transaction's changes.

    Example: [bold]cdcctl audit tx 7513[/]
    """
    _print(log.transaction(settings(context).satellite("audit"), xid), output_format)


@app.command()
def search(
    context: typer.Context,
    table_name: Annotated[str | None, typer.Option("--table", metavar="TABLE", help="schema.table")] = None,
    actor: Annotated[str | None, typer.Option(help="Who, as the annotation says.")] = None,
    column: Annotated[str | None, typer.Option(help="Only changes of this column.")] = None,
    since: Annotated[str | None, typer.Option(help="10m, 2026-11-23T10:00:00Z")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, newest first.")] = 20,
    output_format: Output = Format.TABLE,
) -> None:
    """Find changes by who, what and when, newest first.

    Example: [bold]cdcctl audit search --actor alice --table public.orders --since 1d --column total[/]
    """
    wanted = log.Filter(
        None if table_name is None else _table(table_name), actor, column,
        None if since is None else parse_moment(since), None, limit,
    )  # fmt: skip
    _print(log.find(settings(context).satellite("audit"), wanted), output_format)


@app.command()
def verify(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """Recompute the hash chains; exit 6 and name the first bad entry when the log was altered.

    Not covered: entries cut from a chain's end, which only a copy of its head kept elsewhere can show.

    Example: [bold]cdcctl audit verify -o json[/]
    """
    verdict = log.verify(settings(context).satellite("audit"))
    if output_format is Format.JSON:
        output.print_json(asdict(verdict))
    elif not verdict.breaks:
        output.print_text(
            f"[green]untouched[/]: {verdict.entries} entries in {verdict.chains} chains match their hashes"
        )
    if verdict.breaks:
        bad = "; ".join(f"{one.chain} entry {one.number} {one.reason}" for one in verdict.breaks)
        raise SatelliteError(
            f"the audit log was altered: {bad}", "compare it with a copy; the entries before are sound"
        )


def _print(events: list[log.Event], output_format: Format) -> None:
    if output_format is Format.JSON:
        output.print_json([_plain(event) for event in events])
        return
    for event in events:
        output.print_text(_headline(event))
        for name, (old, new) in event.changed.items():
            output.print_line(f"    {output.escape(name)}: {_diff(event.op, old, new)}")
    if not events:
        output.note("no such change in the log")


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
    return {**asdict(event), "position": str(event.position), "op": event.op.value}


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
