"""``cdcctl demo``: runs the full pipeline locally, shows it live and verifies the result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.demo.run import DemoRun, SatelliteSummary, Summary
from cdcctl.options import Format, Output, current_settings
from cdckit.errors import SatelliteError
from cdckit.runtime.signals import stop_on_signals


def demo(
    context: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running afterwards.")] = False,
    seconds: Annotated[
        int, typer.Option(help="Duration of the workload after all consumers have caught up.", min=1)
    ] = 12,
    svg: Annotated[
        Path | None,
        typer.Option(
            "--svg", help="Save the last frame as an SVG image, and images of top, tail, replay and verify next to it."
        ),
    ] = None,
    output_format: Output = Format.TABLE,
) -> None:
    """Run the full pipeline for a minute: PostgreSQL, a stream, the producer, three consumers and a workload.

    The command ends on its own. Exit status 6 when a satellite differs from the database.

    Example: [bold]cdcctl demo --keep[/]
    """
    folder = current_settings(context).folder / "demo"
    demo_run = DemoRun(folder, quiet=output_format is Format.JSON)
    with stop_on_signals() as stopping:
        try:
            summary = demo_run.run(seconds, stopping, svg)
            if summary is not None:
                _show(demo_run, summary, output_format)
        finally:
            if not keep or stopping.is_set():
                output.note("[dim]stopping everything …[/]")
                demo_run.stop()
    if summary is None:
        raise typer.Exit(130)
    _fail_if_different(summary)
    if keep:
        _print_environment(demo_run)


def _show(demo_run: DemoRun, summary: Summary, output_format: Format) -> None:
    if output_format is Format.JSON:
        output.print_json(summary.as_json())
        return
    demo_run.show_queries()
    output.print_text()
    output.print_table(
        ["satellite", "equal", "changes", "first after", "p50", "p99"],
        [_row(name, satellite) for name, satellite in summary.satellites.items()],
        title=f"{summary.changes} changes in {summary.seconds:.0f} s; latency is commit → durable in the satellite",
    )


def _row(name: str, satellite: SatelliteSummary) -> tuple[str, ...]:
    return (
        name, "yes" if satellite.equal else "NO", str(satellite.changes), f"{satellite.first_change_seconds} s",
        f"{satellite.p50_ms} ms", f"{satellite.p99_ms} ms",
    )  # fmt: skip


def _fail_if_different(summary: Summary) -> None:
    different = {name: satellite for name, satellite in summary.satellites.items() if not satellite.equal}
    if different:
        reasons = "; ".join(f"{name}: {', '.join(satellite.differences[:3])}" for name, satellite in different.items())
        raise SatelliteError(f"not equal to the database: {reasons}", "this is a bug in cdcctl: please report it")
    output.note(
        "[green]all satellites equal the database.[/] Next: [bold]cdcctl demo --keep[/] leaves everything running, "
        "[bold]cdcctl local up[/] starts a sandbox, docs/aws.md describes the deployment on AWS"
    )


def _print_environment(demo_run: DemoRun) -> None:
    output.note("everything keeps running; in this terminal run:")
    for name, value in demo_run.environ.items():
        output.note(f"  export {name}={output.escape(value)}")
    output.note(
        'then [bold]cdcctl tail[/], [bold]cdcctl consumer ls[/], psql "$CDC_DSN"; [bold]cdcctl local down[/] stops it'
    )
