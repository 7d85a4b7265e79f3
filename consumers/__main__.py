"""``cdc-consumer`` and ``python -m consumers``: runs `consumers.main`, or says which extra is not installed."""

from cdckit.runtime.extras import run_program


def main() -> None:
    """Run the program; see `consumers.main.main`."""
    run_program("consumers.main", "consumers")


if __name__ == "__main__":
    main()
