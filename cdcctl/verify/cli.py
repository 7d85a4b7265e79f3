"""``cdcctl verify``: verifies that a satellite equals the source, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import typer

from cdcctl import output
from cdcctl.options import Format, Output, current_settings
from cdcctl.verify.compare import TableResult
from cdcctl.verify.repair import repair_differences
from cdcctl.verify.run import Verification, open_fence
from cdcctl.verify.satellites import SATELLITES
from cdckit.change import Table
from cdckit.errors import UsageError
from cdckit.runtime.signals import stop_on_signals
from producer.postgres.connection import Source
from producer.postgres.credentials import SourceDsn
from producer.snapshot.republish import RepublishResult


def verify(
    context: typer.Context,
    satellite: Annotated[str, typer.Argument(help="search, parquet, audit or replica.")],
    table: Annotated[
        list[str] | None,
        typer.Option("--table", help="Only tables matching this glob (schema.name or name); repeatable."),
    ] = None,
    rate: Annotated[float | None, typer.Option("--rate", min=1, help="Maximum source rows read per second.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait for the satellite.")] = 60.0,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Maximum number of differing keys to print.")] = 20,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Publish differing rows again, delete surplus rows, and verify again."),
    ] = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Verify that a satellite equals the source, in every row and column, while changes continue. Exit status 1 if not.

    The command waits until the satellite has applied every change committed before, compares hashes of key ranges and
    then rows, and rechecks differences after waiting again. It prints each differing key with both values. --repair
    publishes the rows of those keys again (a delete if the source has none); exit status 1 then means that differences
    remain.

    Example: [bold]cdcctl verify search --table 'public.*'[/]
    """
    if satellite not in SATELLITES:
        raise UsageError(f"{satellite!r} cannot be verified", f"use one of: {', '.join(SATELLITES)}")
    settings = current_settings(context)
    with (
        stop_on_signals() as stopping,
        closing(Source(SourceDsn(settings)())) as source,
        _progress_reporter(output_format) as report,
    ):
        fence = open_fence(source, settings, satellite, timeout, stopping.is_set)
        verification = Verification(source, settings, satellite, fence.wait, rate)
        results, republished = verification.run(verification.tables(table or []), report), RepublishResult()
        if repair and not all(result.equal for result in results):
            results, republished = repair_differences(verification, results, report)
    if output_format is Format.JSON:
        output.print_json({**_to_json(satellite, results), "repaired": asdict(republished)})
    else:
        _print(satellite, results, limit)
        if republished != RepublishResult():
            output.note(f"published again: {republished.rows} rows, {republished.deletions} deletions")
    if not all(result.equal for result in results):
        raise typer.Exit(1)


@contextmanager
def _progress_reporter(output_format: Format) -> Iterator[Callable[[Table, str], None]]:
    """Report progress on a terminal, unless the output is JSON. The line is removed before results and errors."""
    if output_format is Format.JSON:
        yield lambda _table, _text: None
        return
    with output.spinner() as show:
        yield lambda table, text: show(f"{table}: {text} …")


def _print(satellite: str, results: Sequence[TableResult], limit: int) -> None:
    output.print_table(
        ["table", "rows", "result", "fence"],
        [(result.table, f"{result.rows:,}", str(result), "" if result.skipped else result.fence) for result in results],
    )
    differing = [difference for result in results for difference in result.differences]
    for difference in differing[:limit]:
        output.print_plain(f"✗ {difference}")
    if len(differing) > limit:
        output.note(f"[dim]and {len(differing) - limit} more keys; use --limit, or -o json[/]")
    if differing:
        output.note(f"[red]{satellite} does not equal the source[/]; check [bold]cdcctl dlq ls {satellite}[/]")
        output.note(f"[bold]cdcctl verify {satellite} --repair[/] publishes these rows again")
    elif unsettled := sum(result.unsettled for result in results):
        output.note(
            f"[yellow]{satellite} equals the source, except for {unsettled} rows that could not be compared[/]: "
            "they changed during every check; verify again when there are fewer changes"
        )
    else:
        output.note(f"[green]{satellite} equals the source[/] in everything that was compared")


def _to_json(satellite: str, results: Sequence[TableResult]) -> dict[str, Any]:
    return {
        "satellite": satellite,
        "equal": all(result.equal for result in results),
        "unsettled": sum(result.unsettled for result in results),
        "tables": [
            {
                "table": str(result.table), "rows": result.rows, "equal": None if result.skipped else result.equal,
                "fence": str(result.fence), "suspects": result.suspects, "checked": result.checked,
                "unsettled": result.unsettled, "unverifiable": result.unverifiable, "skipped": result.skipped or None,
                "differences": [
                    {"key": item.key, "columns": item.columns, "source": item.source, "satellite": item.satellite}
                    for item in result.differences
                ],
            }
            for result in results
        ],
    }  # fmt: skip
