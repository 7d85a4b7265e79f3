"""``cdcctl`` and ``python -m cdcctl``: runs `cdcctl.main`, or says which extra is not installed."""

from cdckit.runtime.extras import run_program


def main() -> None:
    """Run the program; see `cdcctl.main.main`."""
    run_program("cdcctl.main", "cli")


if __name__ == "__main__":
    main()
