"""``cdc-producer``: runs the producer without the command line's libraries (typer, rich), to save memory.

It does the same as ``cdcctl producer run``. Settings come from ``CDC_*`` and ``cdc.toml``; for systemd and containers.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from cdckit.errors import CdcError, UsageError
from cdckit.runtime import logs
from cdckit.runtime.settings import FILE_NAME, Settings, aws_region, resolve
from cdckit.runtime.signals import stop_on_signals
from producer.service import Result, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM (a second SIGINT ends at once); return an exit status, see `cdckit.errors`."""
    options = _parser().parse_args(arguments)
    os.environ.update(aws_region(os.environ))
    try:
        settings = _settings()
        logs.configure("producer", settings.log_format, verbose=options.verbose)
        with stop_on_signals() as stopping:
            result = run(settings, stopping.is_set, new_epoch=options.new_epoch, snapshot=options.snapshot == "initial")
            sys.stdout.write(_format_result(result, options.output))
    except CdcError as error:
        sys.stderr.write(f"error: {error}\n" + (f"hint:  {error.hint}\n" if error.hint else ""))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cdc-producer", description="Publish the source's changes to the stream; settings from CDC_* and cdc.toml."
    )
    parser.add_argument(
        "--new-epoch", action="store_true", help="accept another server, a restored one, or a lost slot"
    )
    parser.add_argument(
        "--snapshot", choices=("none", "initial"), default="none",
        help="initial: if this run creates the slot, publish the existing rows first",
    )  # fmt: skip
    parser.add_argument("--verbose", "-v", action="store_true", help="log every detail")
    parser.add_argument("--output", "-o", choices=("table", "json"), default="table", help="format of the result")
    return parser


def _settings() -> Settings:
    configured = os.environ.get("CDC_CONFIG")
    path = Path(configured or FILE_NAME)
    try:
        text = path.read_text(encoding="utf-8") if configured or path.exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}", "name an existing file in CDC_CONFIG") from error
    return resolve({}, os.environ, text, str(path))[0]


def _format_result(result: Result, output_format: str) -> str:
    if output_format == "json":
        return msgspec.json.encode(result).decode() + "\n"
    return f"{result.changes} changes published as {result.records} records\n"


if __name__ == "__main__":
    sys.exit(main())
