"""``cdcctl doctor``: each prerequisite, what was found, and the exact command that mends it."""

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
from cdcctl.options import Format, Output, settings
from cdckit.runtime.settings import Settings

_MARKS = {
    Level.OK: "[green]✓[/]", Level.WARNING: "[yellow]![/]", Level.FAILED: "[bold red]✗[/]", Level.UNKNOWN: "[dim]?[/]",
}  # fmt: skip


def doctor(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    r"""Look at each prerequisite: this machine, PostgreSQL (RDS too), the stream, permissions, clocks.

    It names what mends each, and changes nothing: a temporary slot, dropped at once, shows that wal2json loads. Exit
    status 1 when something failed; a warning (!) does not fail.

    Example: [bold]cdcctl doctor -o json | jq '.\[] | select(.level != "ok")'[/]
    """
    found: list[Finding] = []
    for finding in _findings(settings(context)):
        found.append(finding)
        if output_format is Format.TABLE:
            _print(finding)
    if output_format is Format.JSON:
        output.print_json([asdict(finding) for finding in found])
    else:
        output.note(_summary(found))
    if any(finding.level is Level.FAILED for finding in found):
        raise typer.Exit(1)


def _findings(found: Settings) -> Iterator[Finding]:
    yield from check_machine(found)
    yield from check_database(found)
    yield from check_rds(found)
    yield from check_cloud(found)


def _print(finding: Finding) -> None:
    output.print_text(f"{_MARKS[finding.level]} [bold]{finding.name}[/]  {output.escape(finding.found)}")
    if finding.mend:
        output.print_text(f"  [dim]→[/] {output.escape(finding.mend)}")


def _summary(found: Sequence[Finding]) -> str:
    counts = Counter(finding.level for finding in found)
    many = {Level.WARNING} if counts[Level.WARNING] > 1 else set[Level]()
    told = [f"{counts[level]} {level}{'s' if level in many else ''}" for level in Level if counts[level]]
    return f"[dim]{', '.join(told)}[/]"
