"""``cdcctl status``: shows the state of the pipeline and the next action."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.options import Format, Output, current_settings
from cdcctl.status import render
from cdcctl.status.advice import advise, lag_problems
from cdcctl.status.collect import StatusCollector
from cdcctl.status.model import Failure, Health
from cdckit.errors import UsageError
from cdckit.runtime.signals import stop_on_signals

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def status(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option("--every", min=1, help="Seconds between two updates of --watch.")] = 5.0,
    max_lag: Annotated[
        str | None, typer.Option("--max-lag", help="Exit status 1 when a satellite is further behind, like 60s or 5m.")
    ] = None,
    output_format: Output = Format.TABLE,
) -> None:
    """Show the state of the pipeline (slot, producer, stream, each consumer's shards) and the next action.

    "behind" is the age of the oldest change that a shard's checkpoint does not cover; "changes" is their number (~: an
    estimate). Exit status 1 when a part is unreachable or --max-lag is exceeded. Needs no Java and writes nothing.

    Example: [bold]cdcctl status --max-lag 60s -o json | jq .advice[/]
    """
    limit = None if max_lag is None else _parse_seconds(max_lag)
    collector = StatusCollector(current_settings(context))
    with stop_on_signals() as stopping:
        while True:
            health = collector.collect()
            problems = [] if limit is None else lag_problems(health, limit)
            _print(health, problems, output_format)
            if not watch:
                break
            if stopping.wait(every):
                return
            if output_format is Format.TABLE:
                output.print_plain("")
    if problems or any(isinstance(part, Failure) for part in (health.slot, health.stream)):
        raise typer.Exit(1)


def _print(health: Health, problems: list[str], output_format: Format) -> None:
    if output_format is Format.JSON:
        output.print_json({**render.to_json(health), "exceeded": problems})
        return
    width = output.width()
    for label, line in render.head(health):
        output.print_text(f"[bold]{label:<9}[/]{line}")
    if health.consumers:
        output.print_text()
        output.print_table(render.columns(width), render.rows(health, width), markup=True)
    output.print_text()
    for line in render.advice_lines(advise(health)):
        output.print_text(line)
    for problem in problems:
        output.print_text(f"[red]exceeds --max-lag:[/] {output.escape(problem)}")


def _parse_seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip().lower())
    if match is None:
        raise UsageError(f"--max-lag cannot be {text!r}", "use 60s, 5m or 1h")
    return float(match[1]) * _SECONDS[match[2] or "s"]
