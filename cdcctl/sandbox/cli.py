"""``cdcctl local``: a sandbox of PostgreSQL and AWS on this machine."""

from __future__ import annotations

import shlex
import shutil
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from cdcctl import output
from cdcctl.options import Format, Output, current_settings
from cdcctl.sandbox import leftovers, state
from cdcctl.sandbox.kinesis.store import keep_bytes
from cdckit.errors import CdcError, UsageError
from cdckit.runtime.settings import Settings, mask_password

app = typer.Typer(no_args_is_help=True, help="A sandbox on this machine: private PostgreSQL, local AWS.")


@app.command()
def up(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """Start the sandbox and print the lines to export; what already runs is left alone.

    Example: [bold]eval "$(cdcctl local up)"[/]
    """
    found = current_settings(context)
    stack = state.up(stack_folder(found), found)
    environ = {"CDC_DATA": str(found.folder), "CDC_STREAM": found.stream, **stack.environ}
    if output_format is Format.JSON:
        output.print_json(environ)
        return
    for name, value in environ.items():
        output.print_plain(f"export {name}={shlex.quote(value)}")
    output.note(
        '[green]up[/]: PostgreSQL and a local AWS. Next: [bold]cdcctl producer run[/] (psql "$CDC_DSN" to change rows)'
    )


@app.command()
def down(context: typer.Context) -> None:
    """Stop the sandbox; its data stays for the next [bold]up[/] ([bold]cdcctl local reset[/] deletes it).

    Example: [bold]cdcctl local down[/]
    """
    _known(current_settings(context)).stop()
    output.note("[green]down[/]")


@app.command()
def reset(
    context: typer.Context,
    sure: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Stop the sandbox and delete it: the database, the stream, and the satellites in the same data folder.

    Asks, unless --yes, and names each folder first. Refused while a consumer of the data folder runs.

    Example: [bold]cdcctl local reset --yes[/]
    """
    data = current_settings(context).folder
    stack, folders = state.find(stack_folder(current_settings(context))), leftovers.kept(data)
    if running := [*leftovers.running(data), *(leftovers.readers(stack) if stack else [])]:
        raise CdcError(
            f"still running: {', '.join(running)}", "stop it with Ctrl-C (cdcctl local down: what a demo left)"
        )
    elsewhere = [stack.cluster.folder] if stack and not stack.cluster.folder.is_relative_to(data) else []
    if not folders and not elsewhere:
        output.note(f"nothing to delete in {output.escape(str(data))}")
        return
    question = f"Delete the sandbox and all that it filled: {', '.join(map(str, [*folders, *elsewhere]))}?"
    if not sure and not output.confirm(question):
        raise UsageError("nothing was deleted", "answer y, or say --yes")
    state.reset(stack_folder(current_settings(context)))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    output.note("[green]deleted[/]; [bold]cdcctl local up[/] starts again from nothing")


@app.command()
def status(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """Show what runs and where; exit 1 when something does not.

    Example: [bold]cdcctl local status -o json[/]
    """
    stack = _known(current_settings(context))
    running = stack.running
    where = {"postgres": mask_password(stack.cluster.dsn), "aws": stack.cloud.url}
    if output_format is Format.JSON:
        output.print_json({part: {"running": running[part], "where": where[part]} for part in running})
    else:
        output.print_table(
            ["part", "state", "where"],
            [(part, "running" if running[part] else "stopped", where[part]) for part in running],
        )
        _print_stored(stack)
    if not all(running.values()):
        raise typer.Exit(1)


def _print_stored(stack: state.Stack) -> None:
    stored = stack.cloud.stored
    since = "" if stored.oldest is None else f", the oldest of {datetime.fromtimestamp(stored.oldest):%Y-%m-%d %H:%M}"
    held, limit = output.file_size(stored.bytes), output.file_size(keep_bytes())
    output.print_text(f"streams hold {held} of records{since}; each holds at most {limit}")


def stack_folder(found: Settings) -> Path:
    """Where the sandbox keeps its data."""
    return found.folder / "local"


def _known(found: Settings) -> state.Stack:
    stack = state.find(stack_folder(found))
    if stack is None:
        raise CdcError(f"no sandbox in {stack_folder(found)}", "cdcctl local up starts one")
    return stack
