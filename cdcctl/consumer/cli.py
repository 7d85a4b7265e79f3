"""``cdcctl consumer``: the satellites' KCL applications."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.consumer.scaffold import write_package
from cdcctl.options import Format, Output, config_environ, settings
from cdcctl.timespec import parse_moment, parse_rate
from cdckit.errors import UsageError
from cdckit.runtime.signals import stop_on_signals
from consumers.kcl.launcher import Launch, Launcher
from consumers.stream.points import OLDEST
from consumers.stream.start import EARLIEST, LATEST, StartPosition
from consumers.worker.metrics import serve_metrics
from consumers.worker.registry import consumer_names, find_factory
from consumers.worker.status import now_behind, read_reports

app = typer.Typer(no_args_is_help=True, help="Run the satellites' KCL applications.")
SHIPPED = ("search", "parquet", "audit")
OLDEST_NAME = "earliest"


@app.command()
def run(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="search, parquet, audit, replica, or a sink that is installed.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Run search, parquet and audit, each its own processes.")
    ] = False,
    sink: Annotated[str | None, typer.Option("--sink", help="A sink of your own, as module:name.")] = None,
    begin: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Where a first start begins: earliest, latest, 10m, 2026-11-23T10:00:00Z. [default: earliest; now "
            "with --bootstrap]",
        ),
    ] = None,
    fan_out: Annotated[
        bool, typer.Option("--fan-out", help="Enhanced fan-out: 2 MiB/s a shard of its own, at a price.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, max=16, help="Daemons on this host, sharing shards.")] = 1,
    max_shards: Annotated[
        int | None, typer.Option("--max-shards", min=1, help="Shards a daemon takes at most.")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option("--metrics-port", min=1, max=65535, help="Serve Prometheus metrics there.")
    ] = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Make this host's store the satellite, instead of another host's.")
    ] = False,
    bootstrap: Annotated[
        bool,
        typer.Option(
            "--bootstrap", help="A satellite that starts late: backfill every published table, say when level."
        ),
    ] = False,
    rate: Annotated[
        str | None, typer.Option("--rate", help="Rows a second of that backfill at most, like 5000/s.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the KCL's own log, raw.")] = False,
) -> None:
    """Run a consumer until Ctrl-C: the MultiLangDaemon on Java, one Python process a shard.

    It resumes from its own checkpoint in its lease table; a crash costs a redelivery, never a change.

    Example: [bold]cdcctl consumer run search[/] in one terminal, [bold]cdcctl consumer run parquet[/] in another
    """
    if bool(name) == every:
        raise UsageError("name one consumer, or use --all", f"known: {', '.join(consumer_names())}")
    found, names = settings(context), list(SHIPPED) if every else [name or ""]
    for item in names:
        find_factory(item, sink)
    pace = parse_rate(rate)
    if bootstrap:  # it needs the producer's libraries, which a consumer alone does not
        from cdcctl.consumer.bootstrap import bootstrapping, from_now  # noqa: PLC0415
    start = from_now() if bootstrap and begin is None else _begin(begin or OLDEST_NAME)
    environ = config_environ(context)
    launches = [
        Launch(item, found, sink, start, fan_out, max_shards, take_over, environ, verbose)
        for item in names
        for _ in range(workers)
    ]
    stop_metrics = None if metrics_port is None else serve_metrics(metrics_port, found.folder, names)
    filling = bootstrapping(found, names, pace) if bootstrap else nullcontext()
    try:
        with filling:
            status = supervise(launches)
        if status:
            raise typer.Exit(status)
    finally:
        if stop_metrics is not None:
            stop_metrics()


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="What it is called: lower-case words joined by '-'.")],
    into: Annotated[Path | None, typer.Option("--into", help="The folder to make. [default: ./NAME]")] = None,
) -> None:
    """Write a small, tested package for a sink of your own: sink, test, properties, README.

    Example: [bold]cdcctl consumer new slack-alerts[/]
    """
    folder = into or Path(name)
    for path in write_package(name, folder):
        output.print_plain(str(path))
    module = name.replace("-", "_")
    output.note(f"next: [bold]cd {output.escape(str(folder))} && python -m pytest[/]")
    output.note(f"then: [bold]cdcctl consumer run {name} --sink {module}:open_sink[/]")


@app.command("ls")
def list_consumers(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """List the consumers and how far each shard came, as its last report on this machine says.

    Example: [bold]cdcctl consumer ls -o json[/]
    """
    found = settings(context)
    reports = [report for name in consumer_names() for report in read_reports(found.folder, name)]
    rows = [
        {
            "consumer": report.consumer, "shard": report.shard, "position": report.position, "read": report.read,
            "applied": report.applied, "superseded": report.superseded, "dead_lettered": report.dead_lettered,
            "behind_seconds": now_behind(report), "ended": report.ended,
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
    """Run these until a signal or until all have ended, every line on stderr, tagged; the worst exit status."""
    width = max(len(launch.name) for launch in launches)
    launchers = [
        Launcher(launch, _emitter(launch.name.ljust(width), index, len(launches)))
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


def _begin(text: str) -> StartPosition:
    if text == "latest":
        return LATEST
    moment = parse_moment(text)
    return EARLIEST if moment == OLDEST else StartPosition.at(moment)


_COLOURS = ("cyan", "green", "magenta", "yellow", "blue")


def _emitter(tag: str, index: int, total: int) -> Callable[[str], None]:
    console, lock = output.stderr(), threading.Lock()
    prefix = f"[{_COLOURS[index % len(_COLOURS)]}]{output.escape(tag)}[/] " if total > 1 else ""

    def emit(line: str) -> None:
        with lock:
            console.print(f"{prefix}{output.escape(line)}", highlight=False)

    return emit
