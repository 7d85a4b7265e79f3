"""``cdcctl verify``: proves that a satellite equals the source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import typer

from cdcctl import output
from cdcctl.options import Format, Output, settings
from cdcctl.verify.compare import Verdict
from cdcctl.verify.repair import repaired
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
        typer.Option("--table", help="Only tables that match this glob, schema.name or name; repeatable."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", min=1, help="Read at most so many source rows a second.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait for the satellite.")] = 60.0,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many differing keys to show.")] = 20,
    repair: Annotated[
        bool, typer.Option("--repair", help="Publish what differs anew, and verify again; deletes what is too much.")
    ] = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Prove that a satellite equals the source, row by row and cell by cell, while changes go on; exit 1 if not.

    It waits until the satellite has all that is committed now, compares hashes of key ranges, then rows, and looks
    again at what differs after waiting anew. Each differing key is named with both sides. With --repair the rows of
    those keys are published anew, as deleted where the source has none, and exit status 1 means that this did not help.

    Example: [bold]cdcctl verify search --table 'public.*'[/]
    """
    if satellite not in SATELLITES:
        raise UsageError(f"{satellite!r} cannot be verified", f"known: {', '.join(SATELLITES)}")
    found = settings(context)
    with stop_on_signals() as stopping, closing(Source(SourceDsn(found)())) as source, _line_taken_away():
        fence = open_fence(source, found, satellite, timeout, stopping.is_set)
        check = Verification(source, found, satellite, fence.pass_, rate)
        verdicts, mended = check.run(check.tables(table or []), _teller(output_format)), RepublishResult()
        if repair and not all(verdict.equal for verdict in verdicts):
            verdicts, mended = repaired(check, verdicts, _teller(output_format))
    if output_format is Format.JSON:
        output.print_json({**_as_json(satellite, verdicts), "repaired": asdict(mended)})
    else:
        _print(satellite, verdicts, limit)
        if mended != RepublishResult():
            output.note(f"published anew: {mended.rows} rows, {mended.deletions} deletions")
    if not all(verdict.equal for verdict in verdicts):
        raise typer.Exit(1)


def _teller(output_format: Format) -> Callable[[Table, str], None]:
    if output_format is Format.JSON:
        return lambda _table, _text: None
    return lambda table, text: output.passing(f"{table}: {text} …")


@contextmanager
def _line_taken_away() -> Iterator[None]:
    """What tells how far it is does not stand above a result, nor above an error."""
    try:
        yield
    finally:
        output.passing()


def _print(satellite: str, verdicts: Sequence[Verdict], limit: int) -> None:
    output.print_table(
        ["table", "rows", "verdict", "fence"],
        [(one.table, f"{one.rows:,}", str(one), "" if one.skipped else one.fence) for one in verdicts],
    )
    differing = [difference for verdict in verdicts for difference in verdict.differences]
    for difference in differing[:limit]:
        output.print_plain(f"✗ {difference}")
    if len(differing) > limit:
        output.note(f"[dim]and {len(differing) - limit} more keys: --limit, or -o json[/]")
    if differing:
        output.note(f"[red]{satellite} does not equal the source[/]; dead letters? [bold]cdcctl dlq ls {satellite}[/]")
        output.note(f"[bold]cdcctl verify {satellite} --repair[/] publishes these rows anew")
    elif unsettled := sum(verdict.unsettled for verdict in verdicts):
        output.note(
            f"[yellow]{satellite} equals the source but for {unsettled} rows that nothing can be said of[/]: "
            "they changed at every look; verify again when less is going on"
        )
    else:
        output.note(f"[green]{satellite} equals the source[/] in all that was compared")


def _as_json(satellite: str, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    return {
        "satellite": satellite,
        "equal": all(verdict.equal for verdict in verdicts),
        "unsettled": sum(verdict.unsettled for verdict in verdicts),
        "tables": [
            {
                "table": str(one.table), "rows": one.rows, "equal": None if one.skipped else one.equal,
                "fence": str(one.fence), "suspects": one.suspects, "looked_at": one.looked_at,
                "unsettled": one.unsettled, "unverifiable": one.unverifiable, "skipped": one.skipped or None,
                "differences": [
                    {"key": item.key, "columns": item.columns, "source": item.source, "satellite": item.satellite}
                    for item in one.differences
                ],
            }
            for one in verdicts
        ],
    }  # fmt: skip
