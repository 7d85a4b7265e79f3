"""``cdc-producer`` and ``python -m producer``: runs `producer.cli`, or says which extra is not installed."""

from cdckit.runtime.extras import run_program


def main() -> None:
    """Run the program; see `producer.cli.main`."""
    run_program("producer.cli", "producer")


if __name__ == "__main__":
    main()
