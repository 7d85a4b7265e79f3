"""``cdcctl consumer``: runs the satellites' KCL applications."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.options import Format, Output, config_environment, current_settings
from cdcctl.timespec import parse_rate, parse_time
from cdckit.errors import UsageError
from cdckit.runtime.settings import Settings
from cdckit.runtime.signals import stop_on_signals
from consumers.kcl.launcher import Launch, Launcher
from consumers.stream.points import OLDEST
from consumers.stream.start import EARLIEST, LATEST, StartPosition
from consumers.worker.registry import consumer_names, find_factory
from consumers.worker.status import read_reports, seconds_behind

app = typer.Typer(no_args_is_help=True, help="Run the satellites' KCL applications.")
BUILT_IN_CONSUMERS = ("search", "parquet", "audit")
EARLIEST_NAME = "earliest"


@app.command()
def run(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="search, parquet, audit, replica, or an installed sink.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Run search, parquet and audit, each in its own processes.")
    ] = False,
    sink: Annotated[str | None, typer.Option("--sink", help="A custom sink, as module:name.")] = None,
    begin: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Start position of a new consumer: earliest, latest, 10m, 2026-11-23T10:00:00Z.",
            show_default="earliest; with --bootstrap: now",
        ),
    ] = None,
    fan_out: Annotated[
        bool, typer.Option("--fan-out", help="Use enhanced fan-out: dedicated 2 MiB/s per shard, at extra cost.")
    ] = False,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=16, help="Daemons on this host, which share the shards.")
    ] = 1,
    max_shards: Annotated[
        int | None, typer.Option("--max-shards", min=1, help="Maximum number of shards per daemon.")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option("--metrics-port", min=1, max=65535, help="Serve Prometheus metrics on this port.")
    ] = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Use this host's store as the satellite instead of another host's.")
    ] = False,
    bootstrap: Annotated[
        bool,
        typer.Option(
            "--bootstrap", help="Fill a new satellite with a backfill of every published table, and report its end."
        ),
    ] = False,
    rate: Annotated[
        str | None,
        typer.Option("--rate", help="With --bootstrap: maximum rows per second of the backfill, like 5000/s."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the unfiltered log of the KCL.")] = False,
) -> None:
    """Run a consumer until Ctrl-C: the MultiLangDaemon on Java, and one Python process per shard.

    It resumes from the checkpoints in its lease table; after a crash changes are delivered again, never lost.

    Example: [bold]cdcctl consumer run search[/] in one terminal, [bold]cdcctl consumer run parquet[/] in another
    """
    if bool(name) == every:
        raise UsageError("give the name of one consumer, or --all", f"known: {', '.join(consumer_names())}")
    settings, names = current_settings(context), list(BUILT_IN_CONSUMERS) if every else [name or ""]
    for consumer in names:
        find_factory(consumer, sink)
    backfill_rate = parse_rate(rate)
    start = StartPosition.a_little_before_now() if bootstrap and begin is None else _parse_start(begin or EARLIEST_NAME)
    environ = config_environment(context)
    launches = [
        Launch(consumer, settings, sink, start, fan_out, max_shards, take_over, environ, verbose, workers)
        for consumer in names
        for _ in range(workers)
    ]
    stop_metrics = None if metrics_port is None else _serve_metrics(metrics_port, settings, names)
    background = _bootstrap(settings, names, backfill_rate) if bootstrap else nullcontext()
    try:
        with background:
            status = supervise(launches)
        if status:
            raise typer.Exit(status)
    finally:
        if stop_metrics is not None:
            stop_metrics()


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The name: lower-case words joined by '-'.")],
    into: Annotated[Path | None, typer.Option("--into", help="The folder to create.", show_default="./NAME")] = None,
) -> None:
    """Generate a package for a custom sink: sink, test, properties, README.

    Example: [bold]cdcctl consumer new slack-alerts[/]
    """
    folder = into or Path(name)
    from cdcctl.consumer.scaffold import write_package  # noqa: PLC0415 -- `run` starts sooner without it

    for path in write_package(name, folder):
        output.print_plain(str(path))
    module = name.replace("-", "_")
    output.note(f"next: [bold]cd {output.escape(str(folder))} && python -m pytest[/]")
    output.note(f"then: [bold]cdcctl consumer run {name} --sink {module}:open_sink[/]")


@app.command("ls")
def list_consumers(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """List the consumers and the progress of each shard, from the reports on this machine.

    Example: [bold]cdcctl consumer ls -o json[/]
    """
    settings = current_settings(context)
    reports = [report for name in consumer_names() for report in read_reports(settings.folder, name)]
    rows = [
        {
            "consumer": report.consumer, "shard": report.shard, "position": report.position, "read": report.read,
            "applied": report.applied, "superseded": report.superseded, "dead_lettered": report.dead_lettered,
            "behind_seconds": seconds_behind(report), "ended": report.ended,
        }
        for report in reports
    ]  # fmt: skip
    if output_format is Format.JSON:
        output.print_json(rows)
    elif rows:
        output.print_table(list(rows[0]), [list(row.values()) for row in rows])
    else:
        output.note(f"no consumer has run here yet; known: {', '.join(consumer_names())}")


def supervise(launches: Sequence[Launch]) -> int:
    """Run the launches until a signal or until all have ended. Returns the highest exit status."""
    width = max(len(launch.name) for launch in launches)
    launchers = [
        Launcher(launch, _tagged_printer(launch.name.ljust(width), index, len(launches)))
        for index, launch in enumerate(launches)
    ]
    with stop_on_signals() as stopping, ThreadPoolExecutor(len(launchers)) as pool:
        runs = [pool.submit(launcher.run) for launcher in launchers]
        names = ", ".join(dict.fromkeys(launch.name for launch in launches))
        stream = output.escape(launches[0].settings.stream)
        output.note(f"running {names} on stream [bold]{stream}[/]; Ctrl-C stops")
        while not stopping.wait(0.2) and not all(run.done() for run in runs):
            pass
        for launcher in launchers:
            launcher.stop()
        return max(run.result() for run in runs)


def _bootstrap(settings: Settings, names: Sequence[str], rate: float | None) -> AbstractContextManager[None]:
    from cdcctl.consumer.bootstrap import bootstrap_in_background  # noqa: PLC0415 -- it loads the producer

    return bootstrap_in_background(settings, names, rate)


def _serve_metrics(port: int, settings: Settings, names: Sequence[str]) -> Callable[[], None]:
    from consumers.worker.metrics import serve_metrics  # noqa: PLC0415 -- only --metrics-port needs it

    return serve_metrics(port, settings.folder, names)


def _parse_start(text: str) -> StartPosition:
    if text == "latest":
        return LATEST
    moment = parse_time(text)
    return EARLIEST if moment == OLDEST else StartPosition.at(moment)


_COLORS = ("cyan", "green", "magenta", "yellow", "blue")


def _tagged_printer(tag: str, index: int, total: int) -> Callable[[str], None]:
    console, lock = output.stderr(), threading.Lock()
    prefix = f"[{_COLORS[index % len(_COLORS)]}]{output.escape(tag)}[/] " if total > 1 else ""

    def emit(line: str) -> None:
        with lock:
            console.print(f"{prefix}{output.escape(line)}", highlight=False)

    return emit
