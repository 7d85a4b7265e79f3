"""``cdcctl parquet``: asks the lake, looks after its files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cdcctl import output
from cdcctl.options import settings
from cdckit.errors import UsageError
from consumers.parquet.lake import Lake
from consumers.parquet.maintain.compaction import MEGABYTE, CompactionPolicy, compact_table
from consumers.parquet.options import ParquetOptions
from consumers.parquet.read import query as lake_query
from consumers.parquet.read.catalog import column_infos, find_tables, table_stats

app = typer.Typer(no_args_is_help=True, help="Ask the Parquet lake, look after its files.")


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


Output = Annotated[Format, typer.Option("--output", "-o", help="Print a table, JSON (an array), or CSV.")]
TableName = Annotated[str, typer.Argument(help="A table, as orders or public.orders.")]
TableNames = Annotated[list[str] | None, typer.Argument(help="Tables, as orders or public.orders; none: all.")]


@app.command()
def query(
    context: typer.Context,
    sql: Annotated[str, typer.Argument(help="DuckDB's SQL; a table T has T (now), T_changes and T_asof('TIME').")],
    output_format: Output = Format.TABLE,
    explain: Annotated[bool, typer.Option("--explain", help="Show the plan, and how many files were read.")] = False,
) -> None:
    """Run SQL over the lake: the rows as they are now, every change, or the rows as of a time.

    Example: [bold]cdcctl parquet query 'select status, count(*) from orders group by all'[/]
    [bold]cdcctl parquet query "select * from orders_asof('2026-11-23 10:00')" -o csv[/]
    [bold]cdcctl parquet query "select _op, _commit_time, status from orders_changes where id = 42"[/]
    """
    lake = _lake(context)
    if explain:
        output.print_plain(lake_query.explain_analyze(lake.root, sql))
        return
    answer = lake_query.run_query(lake.root, sql)
    _print(output_format, list(answer.columns), answer.rows)


@app.command()
def ls(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """List the lake's tables.

    Example: [bold]cdcctl parquet ls[/]
    """
    _print_stats(context, None, output_format, ["source", "table", "changes", "files", "bytes", "newest_commit"])


@app.command()
def stats(context: typer.Context, tables: TableNames = None, output_format: Output = Format.TABLE) -> None:
    """Show the tables' files: how many, how large, how partitioned, from when to when, whether to compact them.

    Example: [bold]cdcctl parquet stats orders -o json[/]
    """
    keep = None
    if output_format is Format.TABLE:
        keep = ["table", "changes", "files", "bytes", "smallest", "largest", "partitions", "due"]
    _print_stats(context, tables, output_format, keep)


@app.command()
def schema(context: typer.Context, table: TableName, output_format: Output = Format.TABLE) -> None:
    """Show a table's columns: the type in PostgreSQL, in the views' SQL, and in the files.

    Example: [bold]cdcctl parquet schema orders[/]
    """
    lake = _lake(context)
    infos = [asdict(info) for ref in find_tables(lake, [table]) for info in column_infos(lake, ref)]
    _print_records(output_format, infos)


@app.command()
def export(
    context: typer.Context,
    table: TableName,
    target: Annotated[Path, typer.Argument(help="File to write; its ending says how: .parquet, .csv, .json.")],
    changes: Annotated[
        bool, typer.Option("--changes", help="Every change instead of the rows as they are now.")
    ] = False,
    asof: Annotated[str | None, typer.Option("--asof", help="The rows as they were at this time.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if there is one.")] = False,
) -> None:
    """Write a table to one file: plain types, one row a key, for tools that know nothing of the lake.

    Example: [bold]cdcctl parquet export orders orders.parquet[/]
    """
    kind = target.suffix.removeprefix(".").lower()
    if kind not in ("parquet", "csv", "json"):
        raise UsageError(f"cannot tell the format of {target}", "end the name in .parquet, .csv or .json")
    if changes and asof:
        raise UsageError("--changes and --asof exclude each other", "give one of them")
    if target.exists() and not force:
        raise UsageError(f"{target} exists", "give another name, or --force")
    if not target.absolute().parent.is_dir():
        raise UsageError(f"no folder {target.absolute().parent}", "make it first")
    lake = _lake(context)
    found = find_tables(lake, [table])
    if len(found) > 1:
        raise UsageError(f"several sources have {table}", "ask by `cdcctl parquet query` and name the source")
    sql = lake_query.select_all_sql(lake, found[0], changes=changes, asof=asof)
    count = lake_query.export_query(lake.root, sql, target.absolute(), kind)
    output.note(f"{count} rows written to {output.escape(str(target))}")


@app.command()
def compact(
    context: typer.Context,
    tables: TableNames = None,
    target_mb: Annotated[float | None, typer.Option("--target-mb", help="How large files shall become.")] = None,
    sort_by: Annotated[list[str] | None, typer.Option("--sort-by", help="Column to order rows by; repeatable.")] = None,
    retention_hours: Annotated[
        int | None, typer.Option("--retention-hours", help="Delete what has been out of use for longer.")
    ] = None,
    output_format: Output = Format.TABLE,
) -> None:
    r"""Merge small files and delete expired ones, while others read and write.

    The consumer does this by itself, now and then; settings: \[consumers.parquet] in cdc.toml.

    Example: [bold]cdcctl parquet compact orders --sort-by customer_id[/]
    """
    options, lake = _options(context), _lake(context)
    goal = _goal(options.compaction, target_mb, sort_by, retention_hours)
    done = [{"table": str(ref), **asdict(compact_table(lake, ref, goal))} for ref in find_tables(lake, tables or [])]
    _print_records(output_format, done)


def _goal(
    goal: CompactionPolicy, target_mb: float | None, sort_by: list[str] | None, retention_hours: int | None
) -> CompactionPolicy:
    if target_mb is not None and target_mb <= 0:
        raise UsageError(f"--target-mb cannot be {target_mb}", "use a number of megabytes, like 128")
    if retention_hours is not None and retention_hours < 1:
        raise UsageError(f"--retention-hours cannot be {retention_hours}", "writers at work need an hour")
    size = goal.target_bytes if target_mb is None else int(target_mb * MEGABYTE)
    hours = goal.retention_hours if retention_hours is None else retention_hours
    return CompactionPolicy(size, tuple(sort_by or goal.sort_by), hours)


def _options(context: typer.Context) -> ParquetOptions:
    return ParquetOptions.read(settings(context).options("parquet"))


def _lake(context: typer.Context) -> Lake:
    return _options(context).lake(settings(context).satellite("parquet"))


def _print_stats(context: typer.Context, tables: list[str] | None, form: Format, keep: list[str] | None) -> None:
    lake, goal = _lake(context), _options(context).compaction
    rows = [_kept(asdict(table_stats(lake, ref, goal)), keep) for ref in find_tables(lake, tables or [])]
    _print_records(form, rows)


def _kept(row: dict[str, Any], keep: list[str] | None) -> dict[str, Any]:
    return row if keep is None else {name: row[name] for name in keep}


def _print_records(form: Format, records: Sequence[dict[str, Any]]) -> None:
    _print(form, list(records[0]) if records else [], [list(record.values()) for record in records])


def _print(form: Format, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    if form is Format.JSON:
        output.print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif form is Format.CSV:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([columns, *rows])
        output.print_plain(text.getvalue().rstrip("\n"))
    else:
        output.print_table(columns, rows)
