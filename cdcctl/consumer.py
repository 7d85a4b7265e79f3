"""``cdcctl consumer``: the satellites' KCL applications."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.context import Format, Output, settings
from cdcctl.signals import stop_on_signals
from cdckit.errors import UsageError
from cdckit.settings import Settings
from consumers.figures import now_behind, read_reports
from consumers.launcher import Launch, Launcher
from consumers.registry import consumer_names, find_factory

app = typer.Typer(no_args_is_help=True, help="Run the satellites' KCL applications.")
SHIPPED = ("search", "parquet", "audit")


@app.command()
def run(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="search, parquet, audit, or a sink that is installed.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Run search, parquet and audit, each its own processes.")
    ] = False,
    sink: Annotated[str | None, typer.Option("--sink", help="A sink of your own, as module:name.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the KCL's own log, raw.")] = False,
) -> None:
    """Run a consumer until Ctrl-C: the MultiLangDaemon on Java, one Python process a shard.

    It resumes from its own checkpoint in its lease table; a crash costs a redelivery, never a change.

    Example: [bold]cdcctl consumer run search[/] in one terminal, [bold]cdcctl consumer run parquet[/] in another
    """
    if bool(name) == every:
        raise UsageError("name one consumer, or use --all", f"known: {', '.join(consumer_names())}")
    names = list(SHIPPED) if every else [name or ""]
    for item in names:
        find_factory(item, sink)
    supervise(settings(context), names, sink=sink, verbose=verbose)


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


def supervise(found: Settings, names: list[str], *, sink: str | None = None, verbose: bool = False) -> None:
    """Run these consumers until a signal, all their lines on stderr, each tagged."""
    width = max(map(len, names))
    launchers = {
        name: Launcher(Launch(name, found, sink=sink, verbose=verbose), _emitter(name.ljust(width), index, len(names)))
        for index, name in enumerate(names)
    }
    with stop_on_signals() as stopping:
        threads = [threading.Thread(target=launcher.run, name=name) for name, launcher in launchers.items()]
        for thread in threads:
            thread.start()
        output.note(f"running {', '.join(names)} on stream [bold]{output.escape(found.stream)}[/]; Ctrl-C stops")
        while not stopping.wait(0.5) and any(thread.is_alive() for thread in threads):
            pass
        for launcher in launchers.values():
            launcher.stop()
        for thread in threads:
            thread.join()


_COLOURS = ("cyan", "green", "magenta", "yellow", "blue")


def _emitter(tag: str, index: int, total: int) -> Callable[[str], None]:
    console, lock = output.stderr(), threading.Lock()
    prefix = f"[{_COLOURS[index % len(_COLOURS)]}]{output.escape(tag)}[/] " if total > 1 else ""

    def emit(line: str) -> None:
        with lock:
            console.print(f"{prefix}{output.escape(line)}", highlight=False)

    return emit
