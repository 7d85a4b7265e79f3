"""``cdcctl`` and ``python -m cdcctl``: runs `cdcctl.main`, or says which extra is not installed.

Answers ``cdcctl --version`` without loading the command tree, which takes half a second.
"""

import sys

from cdckit.runtime.extras import run_program


def main() -> None:
    """Run the program; see `cdcctl.main.main`."""
    if sys.argv[1:] == ["--version"]:
        from importlib.metadata import version  # noqa: PLC0415 -- only this flag needs it

        sys.stdout.write(f"cdcctl {version('cdckit')}\n")
        return
    run_program("cdcctl.main", "cli")


if __name__ == "__main__":
    main()
