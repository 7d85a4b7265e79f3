"""``cdc-consumer NAME``: the process that the MultiLangDaemon starts per shard (``executableName`` in the properties).

It speaks the daemon's protocol on its standard streams and shows nothing on a terminal: users run
``cdcctl consumer run NAME``. Settings come from ``CDC_*`` and ``cdc.toml``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cdckit.errors import CdcError, UsageError
from cdckit.runtime import logs
from cdckit.runtime.settings import FILE_NAME, Settings, aws_region, resolve
from consumers.kcl import processor
from consumers.worker.factory import WorkerFactory
from consumers.worker.registry import find_factory
from consumers.worker.shard import ShardWorker


def main() -> None:
    """Runs one shard of the consumer that the command line names; exits with the error's status on a wrong setting."""
    os.environ.update(aws_region(os.environ))
    try:
        name = _parse_name(sys.argv[1:])
        settings = _read_settings()
        factory = find_factory(name, os.environ.get("CDC_SINK"))
    except CdcError as error:
        sys.stderr.write(f"error: {error}\nhint:  {error.hint}\n")
        sys.exit(error.exit_code)
    logs.configure(name, settings.log_format)

    workers = WorkerFactory(settings, name, factory, take_over=bool(os.environ.get("CDC_TAKE_OVER")))

    def open_worker(shard: str) -> ShardWorker:
        logs.configure(f"{name} {shard.removeprefix('shardId-')[-4:]}", settings.log_format)
        return workers.open_worker(shard)

    processor.serve(open_worker)


def _parse_name(arguments: list[str]) -> str:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise UsageError(
            "cdc-consumer takes one argument, the consumer's name", "run it with: cdcctl consumer run NAME"
        )
    return arguments[0]


def _read_settings() -> Settings:
    path = Path(os.environ.get("CDC_CONFIG", FILE_NAME))
    text = path.read_text(encoding="utf-8") if path.exists() else None
    return resolve({}, os.environ, text, str(path))[0]


if __name__ == "__main__":
    main()
