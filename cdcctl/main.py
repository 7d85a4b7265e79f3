"""``cdcctl``: the root command, how errors leave it, and where each noun is mounted (and loaded: when it is called)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from cdcctl import output
from cdcctl.options import add_setting_flags
from cdckit.errors import CdcError
from cdckit.runtime.settings import aws_region

_TRY, _SET, _RUN, _WATCH, _ASK = "Try it", "Set up", "Run it", "Watch and mend", "Ask the satellites"


_COMMANDS: Sequence[tuple[str, str, str, str]] = (
    ("demo", "demo.cli:demo", _TRY, "Run everything for a minute, on real parts."),
    ("local", "sandbox.cli:app", _TRY, "A sandbox on this machine: PostgreSQL and AWS."),
    ("init", "init.cli:init", _SET, "Ask a few questions and write cdc.toml."),
    ("doctor", "doctor.cli:doctor", _SET, "Look at each prerequisite, and what mends it."),
    ("config", "config.cli:app", _SET, "Show the settings in force."),
    ("slot", "slot.cli:app", _SET, "See, make and drop replication slots."),
    ("stream", "stream.cli:app", _SET, "Make, describe and reshard the stream."),
    ("aws", "aws.cli:app", _SET, "The least IAM policy of each part."),
    ("producer", "producer.cli:app", _RUN, "Publish the source's changes to the stream."),
    ("consumer", "consumer.cli:app", _RUN, "Run the satellites' KCL applications."),
    ("status", "status.cli:status", _WATCH, "One screen from the WAL to the satellites."),
    ("top", "status.top:top", _WATCH, "The same, live, with sparklines."),
    ("tail", "tail.cli:tail", _WATCH, "Watch the changes on the stream."),
    ("replay", "replay.cli:app", _WATCH, "The stream again from a chosen time."),
    ("dlq", "dlq.cli:app", _WATCH, "See, redrive and drop dead letters."),
    ("leases", "leases.cli:app", _WATCH, "See the consumers' leases."),
    ("verify", "verify.cli:verify", _ASK, "Prove that a satellite equals the source."),
    ("search", "search.cli:app", _ASK, "Ask the full-text index."),
    ("parquet", "parquet.cli:app", _ASK, "Ask the Parquet lake, look after its files."),
    ("audit", "audit.cli:app", _ASK, "Ask the audit log, and verify it."),
)


class Root(TyperGroup):
    """The root group: turns errors into one clear line, what mends it, and a documented exit status."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """In the order in which people meet them."""
        return [name for name, *_ in _COMMANDS if name in self.commands]

    def invoke(self, ctx: Any) -> Any:
        """Run the command; `cdckit.errors` lists the exit statuses, 130 is Ctrl-C."""
        try:
            return super().invoke(ctx)
        except CdcError as error:
            output.failure(error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(130) from error
        except BrokenPipeError as error:
            # whoever read us has seen enough (| head); what is still buffered goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from error


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 -- only this flag needs it

        output.print_text(f"cdcctl {version('cdckit')}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Satellites that follow PostgreSQL over a Kinesis stream; exit statuses are in docs/commands.md.

    Example: [bold]cdcctl demo[/]
    """


def build(only: str | None = None) -> Any:
    """The finished command tree, or as much of it as a call of the command `only` needs: the rest is slow to load."""
    app = typer.Typer(
        cls=Root,
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    known = any(name == only for name, *_ in _COMMANDS)
    for name, where, panel, summary in _COMMANDS:
        if name == only or not known:
            _mount(app, name, where, panel, summary)
    command = get_command(app)
    add_setting_flags(command)
    return command


def _mount(app: typer.Typer, name: str, where: str, panel: str, summary: str) -> None:
    module, _, attribute = where.partition(":")
    command = getattr(import_module(f"cdcctl.{module}"), attribute)
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name, short_help=summary, rich_help_panel=panel)
    else:
        app.command(name, short_help=summary, rich_help_panel=panel)(command)


def main() -> None:
    """The entry point."""
    os.environ.update(aws_region(os.environ))
    first = sys.argv[1] if len(sys.argv) > 1 else None
    build("config" if first == "--version" else first)(prog_name="cdcctl")


if __name__ == "__main__":
    main()
