"""The console script: answers ``cdcctl --version`` without loading the command tree, which takes half a second."""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point."""
    if sys.argv[1:] == ["--version"]:
        from importlib.metadata import version  # noqa: PLC0415 -- only this flag needs it

        sys.stdout.write(f"cdcctl {version('cdckit')}\n")
        return
    from cdcctl.main import main as run  # noqa: PLC0415 -- it loads typer and rich

    run()
