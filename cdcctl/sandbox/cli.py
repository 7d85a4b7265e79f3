"""``cdcctl local``: a sandbox of PostgreSQL and AWS on this machine."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer

from cdcctl import output
from cdcctl.options import Format, Output, current_settings
from cdcctl.sandbox import state
from cdckit.errors import CdcError
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
    """Stop the sandbox; its data stays for the next [bold]up[/] (delete the data folder to start anew).

    Example: [bold]cdcctl local down[/]
    """
    _known(current_settings(context)).stop()
    output.note("[green]down[/]")


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
    if not all(running.values()):
        raise typer.Exit(1)


def stack_folder(found: Settings) -> Path:
    """Where the sandbox keeps its data."""
    return found.folder / "local"


def _known(found: Settings) -> state.Stack:
    stack = state.find(stack_folder(found))
    if stack is None:
        raise CdcError(f"no sandbox in {stack_folder(found)}", "cdcctl local up starts one")
    return stack
