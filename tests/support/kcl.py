"""Starts consumers under the real KCL, on a Kinesis that can be split."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cdcctl.demo.child_processes import ChildProcesses
from tests.support.resharding_aws import ReshardingCloud


@contextmanager
def parts_in(
    folder: Path, cloud: ReshardingCloud, monkeypatch: pytest.MonkeyPatch, toml: str = "", **more: str
) -> Iterator[ChildProcesses]:
    """`cdcctl` processes that end with the block; none is started yet.

    `toml` is the content of ``cdc.toml``, `more` are further variables. The variables are set in this process too.
    """
    config = folder / "cdc.toml"
    config.write_text(toml)
    environ = {
        **cloud.environ, "CDC_DATA": str(folder), "CDC_CONFIG": str(config), "CDC_CHECKPOINT_SECONDS": "0.5", **more,
    }  # fmt: skip
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    made = ChildProcesses(folder / "logs", environ)
    yield made
    made.stop()


def start_consumer(
    parts: ChildProcesses, name: str, stream: str, *more: str, label: str = "", folder: Path | None = None
) -> None:
    """Start a consumer of `stream`, whose lease table is named after the stream. `label` names the process."""
    command = ["consumer", "run", name, "--stream", stream, "--app-prefix", stream, *more]
    parts.start(label or name, command, folder)


def start_ledger(parts: ChildProcesses, stream: str, *more: str, label: str = "", folder: Path | None = None) -> None:
    """Start a consumer with the sink of `tests.support.ledger_sink`."""
    sink = ("--sink", "tests.support.ledger_sink:open_sink")
    start_consumer(parts, "ledger", stream, *sink, *more, label=label, folder=folder)


def logs(parts: ChildProcesses) -> Callable[[], str]:
    """For a failure's message: reads the last lines of each part's log."""
    return lambda: "\n\n".join(f"{path.name}:\n{_end_of(path)}" for path in sorted(parts.logs.glob("*.log")))


def _end_of(log: Path) -> str:
    """The last lines of a log, without the rows that the sink prints."""
    return "\n".join([line for line in log.read_text().splitlines() if '{"action"' not in line][-30:])
