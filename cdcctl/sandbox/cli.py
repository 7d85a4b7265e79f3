"""``cdcctl local``: starts, stops, deletes and shows the sandbox of PostgreSQL and AWS on this machine."""

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
from cdcctl.sandbox.kinesis.store import max_stream_bytes
from cdckit.errors import CdcError, UsageError
from cdckit.runtime.settings import Settings, mask_password

app = typer.Typer(no_args_is_help=True, help="A sandbox on this machine: private PostgreSQL, local AWS.")


@app.command()
def up(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """Start the sandbox and print the variables to export; does nothing if it already runs.

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
    """Stop the sandbox; the next [bold]up[/] uses its data again ([bold]cdcctl local reset[/] deletes it).

    Example: [bold]cdcctl local down[/]
    """
    _existing(current_settings(context)).stop()
    output.note("[green]down[/]")


@app.command()
def reset(
    context: typer.Context,
    sure: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Stop the sandbox and delete its database, its stream, and the satellites in the same data folder.

    Lists the folders and asks for confirmation, unless --yes. Fails while a consumer or producer runs.

    Example: [bold]cdcctl local reset --yes[/]
    """
    data = current_settings(context).folder
    stack, folders = state.find(stack_folder(current_settings(context))), leftovers.data_folders(data)
    if running := [*leftovers.running_consumers(data), *(leftovers.running_producers(stack) if stack else [])]:
        raise CdcError(
            f"still running: {', '.join(running)}", "stop it with Ctrl-C, or cdcctl local down if a demo started it"
        )
    elsewhere = [stack.cluster.folder] if stack and not stack.cluster.folder.is_relative_to(data) else []
    if not folders and not elsewhere:
        output.note(f"nothing to delete in {output.escape(str(data))}")
        return
    question = f"Delete the sandbox and its data: {', '.join(map(str, [*folders, *elsewhere]))}?"
    if not sure and not output.confirm(question):
        raise UsageError("nothing was deleted", "answer y, or use --yes")
    state.reset(stack_folder(current_settings(context)))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    output.note("[green]deleted[/]; [bold]cdcctl local up[/] creates an empty sandbox")


@app.command()
def status(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """Show the parts of the sandbox and their addresses; exit with 1 if one does not run.

    Example: [bold]cdcctl local status -o json[/]
    """
    stack = _existing(current_settings(context))
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
    size, limit = output.file_size(stored.bytes), output.file_size(max_stream_bytes())
    output.print_text(f"streams hold {size} of records{since}; each holds at most {limit}")


def stack_folder(found: Settings) -> Path:
    """The folder of the sandbox's data."""
    return found.folder / "local"


def _existing(found: Settings) -> state.Stack:
    stack = state.find(stack_folder(found))
    if stack is None:
        raise CdcError(f"no sandbox in {stack_folder(found)}", "cdcctl local up starts one")
    return stack
