"""``cdcctl doctor``: checks each prerequisite and prints the command that fixes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import typer

from cdcctl import output
from cdcctl.doctor.cloud import check_cloud
from cdcctl.doctor.database import check_database
from cdcctl.doctor.finding import Finding, Level
from cdcctl.doctor.machine import check_machine
from cdcctl.doctor.rds import check_rds
from cdcctl.options import Format, Output, current_settings
from cdckit.runtime.settings import Settings

_MARKS = {
    Level.OK: "[green]✓[/]", Level.WARNING: "[yellow]![/]", Level.FAILED: "[bold red]✗[/]", Level.UNKNOWN: "[dim]?[/]",
}  # fmt: skip


def doctor(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    r"""Check each prerequisite: this machine, PostgreSQL (also on RDS), the stream, permissions, clocks.

    It prints the fix for each problem and changes nothing; to test wal2json it creates and drops a temporary slot. Exit
    status 1 when a check failed; a warning (!) does not count as a failure.

    Example: [bold]cdcctl doctor -o json | jq '.\[] | select(.level != "ok")'[/]
    """
    found: list[Finding] = []
    for finding in _findings(current_settings(context)):
        found.append(finding)
        if output_format is Format.TABLE:
            _print(finding)
    if output_format is Format.JSON:
        output.print_json([asdict(finding) for finding in found])
    else:
        output.note(_summary(found))
    if any(finding.level is Level.FAILED for finding in found):
        raise typer.Exit(1)


def _findings(settings: Settings) -> Iterator[Finding]:
    yield from check_machine(settings)
    yield from check_database(settings)
    yield from check_rds(settings)
    yield from check_cloud(settings)


def _print(finding: Finding) -> None:
    output.print_text(f"{_MARKS[finding.level]} [bold]{finding.name}[/]  {output.escape(finding.found)}")
    if finding.fix:
        output.print_text(f"  [dim]→[/] {output.escape(finding.fix)}")


def _summary(found: Sequence[Finding]) -> str:
    counts = Counter(finding.level for finding in found)
    plural = {Level.WARNING} if counts[Level.WARNING] > 1 else set[Level]()
    parts = [f"{counts[level]} {level}{'s' if level in plural else ''}" for level in Level if counts[level]]
    return f"[dim]{', '.join(parts)}[/]"
