"""``cdcctl demo``: the whole way of a change, on this machine, watched live and proved at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.demo.run import Demonstration, SatelliteSummary, Summary
from cdcctl.options import Format, Output, settings
from cdckit.errors import SatelliteError
from cdckit.runtime.signals import stop_on_signals


def demo(
    context: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running afterwards, for exploring.")] = False,
    seconds: Annotated[
        int, typer.Option(help="How long the workload goes on once all consumers follow it.", min=1)
    ] = 12,
    svg: Annotated[
        Path | None,
        typer.Option(
            "--svg", help="Save the last frame as an SVG image, and those of top, tail, replay and verify beside it."
        ),
    ] = None,
    output_format: Output = Format.TABLE,
) -> None:
    """Run everything for a minute: PostgreSQL, a stream, the producer, three consumers, and a workload.

    Ends by itself; exits with 6 when a satellite does not equal the database.

    Example: [bold]cdcctl demo --keep[/]
    """
    folder = settings(context).folder / "demo"
    demonstration = Demonstration(folder, quiet=output_format is Format.JSON)
    with stop_on_signals() as stopping:
        try:
            summary = demonstration.run(seconds, stopping, svg)
            if summary is not None:
                _show(demonstration, summary, output_format)
        finally:
            if not keep or stopping.is_set():
                output.note("[dim]stopping everything …[/]")
                demonstration.stop()
    if summary is None:
        raise typer.Exit(130)
    _judge(summary)
    if keep:
        _kept(demonstration)


def _show(demonstration: Demonstration, summary: Summary, output_format: Format) -> None:
    if output_format is Format.JSON:
        output.print_json(summary.as_json())
        return
    demonstration.show_queries()
    output.print_text()
    output.print_table(
        ["satellite", "equal", "changes", "first after", "p50", "p99"],
        [_row(name, one) for name, one in summary.satellites.items()],
        title=f"{summary.changes} changes in {summary.seconds:.0f} s; latency is commit → durable in the satellite",
    )


def _row(name: str, one: SatelliteSummary) -> tuple[str, ...]:
    equal = "yes" if one.equal else "NO"
    return name, equal, str(one.changes), f"{one.first_change_seconds} s", f"{one.p50_ms} ms", f"{one.p99_ms} ms"


def _judge(summary: Summary) -> None:
    wrong = {name: one for name, one in summary.satellites.items() if not one.equal}
    if wrong:
        reasons = "; ".join(f"{name}: {', '.join(one.differences[:3])}" for name, one in wrong.items())
        raise SatelliteError(f"not equal to the database: {reasons}", "this is a bug in cdcctl: please report it")
    output.note(
        "[green]all satellites equal the database.[/] Next: [bold]cdcctl demo --keep[/] to explore, "
        "[bold]cdcctl local up[/] to run the parts by hand, docs/aws.md for your own database on AWS"
    )


def _kept(demonstration: Demonstration) -> None:
    output.note("everything goes on; in this terminal:")
    for name, value in demonstration.environ.items():
        output.note(f"  export {name}={output.escape(value)}")
    output.note(
        'then [bold]cdcctl tail[/], [bold]cdcctl consumer ls[/], psql "$CDC_DSN"; [bold]cdcctl local down[/] ends it'
    )
