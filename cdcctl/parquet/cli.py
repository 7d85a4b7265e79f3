"""``cdcctl parquet``: queries the Parquet lake and maintains its files."""

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
from cdcctl.options import current_settings
from cdckit.errors import UsageError
from consumers.parquet.lake import Lake
from consumers.parquet.maintain.compaction import MEGABYTE, CompactionPolicy, compact_table
from consumers.parquet.options import ParquetOptions
from consumers.parquet.read import query as lake_query
from consumers.parquet.read.catalog import column_infos, find_tables, table_stats

app = typer.Typer(no_args_is_help=True, help="Query the Parquet lake, maintain its files.")


class ParquetFormat(StrEnum):
    """Output format of a result."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


Output = Annotated[ParquetFormat, typer.Option("--output", "-o", help="Print a table, JSON (an array), or CSV.")]
TableName = Annotated[str, typer.Argument(help="The table: orders or public.orders.")]
TableNames = Annotated[list[str] | None, typer.Argument(help="Tables: orders or public.orders.", show_default="all")]


@app.command()
def query(
    context: typer.Context,
    sql: Annotated[
        str, typer.Argument(help="DuckDB SQL. A table T has the views T (current), T_changes, T_asof('TIME').")
    ],
    output_format: Output = ParquetFormat.TABLE,
    explain: Annotated[bool, typer.Option("--explain", help="Show the query plan and the files read.")] = False,
) -> None:
    """Run SQL on the lake: the current rows, every change, or the rows as of a time.

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
def ls(context: typer.Context, output_format: Output = ParquetFormat.TABLE) -> None:
    """List the lake's tables.

    Example: [bold]cdcctl parquet ls[/]
    """
    _print_stats(context, None, output_format, ["source", "table", "changes", "files", "bytes", "newest_commit"])


@app.command()
def stats(context: typer.Context, tables: TableNames = None, output_format: Output = ParquetFormat.TABLE) -> None:
    """Show the files of the tables: number, sizes, partitions, time range, and whether compaction is due.

    Example: [bold]cdcctl parquet stats orders -o json[/]
    """
    shown = None
    if output_format is ParquetFormat.TABLE:
        shown = ["table", "changes", "files", "bytes", "smallest", "largest", "partitions", "due"]
    _print_stats(context, tables, output_format, shown)


@app.command()
def schema(context: typer.Context, table: TableName, output_format: Output = ParquetFormat.TABLE) -> None:
    """Show the columns of a table, with their types in PostgreSQL, in SQL views and in the files.

    Example: [bold]cdcctl parquet schema orders[/]
    """
    lake = _lake(context)
    infos = [asdict(info) for ref in find_tables(lake, [table]) for info in column_infos(lake, ref)]
    _print_records(output_format, infos)


@app.command()
def export(
    context: typer.Context,
    table: TableName,
    target: Annotated[Path, typer.Argument(help="File to write; its extension is the format: .parquet, .csv, .json.")],
    changes: Annotated[
        bool, typer.Option("--changes", help="Export every change instead of the current rows.")
    ] = False,
    asof: Annotated[str | None, typer.Option("--asof", help="Export the rows as of this time.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a table to one file with plain types and one row per key, for other tools.

    Example: [bold]cdcctl parquet export orders orders.parquet[/]
    """
    kind = target.suffix.removeprefix(".").lower()
    if kind not in ("parquet", "csv", "json"):
        raise UsageError(f"unknown file format: {target}", "use a name ending in .parquet, .csv or .json")
    if changes and asof:
        raise UsageError("--changes and --asof cannot be combined", "use one of them")
    if target.exists() and not force:
        raise UsageError(f"{target} exists", "use another name, or --force")
    if not target.absolute().parent.is_dir():
        raise UsageError(f"no folder {target.absolute().parent}", f"mkdir -p {target.absolute().parent}")
    lake = _lake(context)
    found = find_tables(lake, [table])
    if len(found) > 1:
        raise UsageError(f"several sources have {table}", "use `cdcctl parquet query` and name the source")
    sql = lake_query.select_all_sql(lake, found[0], changes=changes, asof=asof)
    count = lake_query.export_query(lake.root, sql, target.absolute(), kind)
    output.note(f"{count} rows written to {output.escape(str(target))}")


@app.command()
def compact(
    context: typer.Context,
    tables: TableNames = None,
    target_mb: Annotated[float | None, typer.Option("--target-mb", help="Target size of a file, in megabytes.")] = None,
    sort_by: Annotated[list[str] | None, typer.Option("--sort-by", help="Column to sort rows by; repeatable.")] = None,
    retention_hours: Annotated[
        int | None, typer.Option("--retention-hours", help="Delete files that have been unused for longer than this.")
    ] = None,
    output_format: Output = ParquetFormat.TABLE,
) -> None:
    r"""Merge small files and delete expired ones; readers and writers may be active.

    The consumer also does this periodically; its settings are in \[consumers.parquet] in cdc.toml.

    Example: [bold]cdcctl parquet compact orders --sort-by customer_id[/]
    """
    options, lake = _options(context), _lake(context)
    goal = _goal(options.compaction, target_mb, sort_by, retention_hours)
    results = [{"table": str(ref), **asdict(compact_table(lake, ref, goal))} for ref in find_tables(lake, tables or [])]
    _print_records(output_format, results)


def _goal(
    goal: CompactionPolicy, target_mb: float | None, sort_by: list[str] | None, retention_hours: int | None
) -> CompactionPolicy:
    if target_mb is not None and target_mb <= 0:
        raise UsageError(f"--target-mb cannot be {target_mb}", "use a number of megabytes, like 128")
    if retention_hours is not None and retention_hours < 1:
        raise UsageError(f"--retention-hours cannot be {retention_hours}", "the minimum is 1, for active writers")
    size = goal.target_bytes if target_mb is None else int(target_mb * MEGABYTE)
    hours = goal.retention_hours if retention_hours is None else retention_hours
    return CompactionPolicy(size, tuple(sort_by or goal.sort_by), hours)


def _options(context: typer.Context) -> ParquetOptions:
    return ParquetOptions.read(current_settings(context).options("parquet"))


def _lake(context: typer.Context) -> Lake:
    return _options(context).lake(current_settings(context).satellite("parquet"))


def _print_stats(
    context: typer.Context, tables: list[str] | None, output_format: ParquetFormat, shown: list[str] | None
) -> None:
    lake, goal = _lake(context), _options(context).compaction
    rows = [_select_columns(asdict(table_stats(lake, ref, goal)), shown) for ref in find_tables(lake, tables or [])]
    _print_records(output_format, rows)


def _select_columns(row: dict[str, Any], names: list[str] | None) -> dict[str, Any]:
    return row if names is None else {name: row[name] for name in names}


def _print_records(output_format: ParquetFormat, records: Sequence[dict[str, Any]]) -> None:
    _print(output_format, list(records[0]) if records else [], [list(record.values()) for record in records])


def _print(output_format: ParquetFormat, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    if output_format is ParquetFormat.JSON:
        output.print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif output_format is ParquetFormat.CSV:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([columns, *rows])
        output.print_plain(text.getvalue().rstrip("\n"))
    else:
        output.print_table(columns, rows)
