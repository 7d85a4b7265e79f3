"""``cdc-consumer NAME``: what the MultiLangDaemon starts for each shard (``executableName`` in the properties).

It speaks the daemon's protocol on its standard streams, so there is nothing to see when a person runs it;
``cdcctl consumer run NAME`` is the command for people. Settings come from ``CDC_*`` and ``cdc.toml``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cdckit.errors import CdcError, UsageError
from cdckit.runtime import logs
from cdckit.runtime.settings import FILE_NAME, Settings, aws_region, resolve
from consumers.kcl import processor
from consumers.worker.factory import Opening
from consumers.worker.registry import find_factory
from consumers.worker.shard import ShardWorker


def main() -> None:
    """Run one shard of the consumer named on the command line; exits with 2 on a user's mistake."""
    os.environ.update(aws_region(os.environ))
    try:
        name = _name(sys.argv[1:])
        settings = _settings()
        factory = find_factory(name, os.environ.get("CDC_SINK"))
    except CdcError as error:
        sys.stderr.write(f"error: {error}\nhint:  {error.hint}\n")
        sys.exit(error.exit_code)
    logs.configure(name, settings.log_format)

    opening = Opening(settings, name, factory, take_over=bool(os.environ.get("CDC_TAKE_OVER")))

    def open_worker(shard: str) -> ShardWorker:
        logs.configure(f"{name} {shard.removeprefix('shardId-')[-4:]}", settings.log_format)
        return opening.worker(shard)

    processor.serve(open_worker)


def _name(arguments: list[str]) -> str:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise UsageError("cdc-consumer takes one argument, the consumer's name", "people use: cdcctl consumer run NAME")
    return arguments[0]


def _settings() -> Settings:
    path = Path(os.environ.get("CDC_CONFIG", FILE_NAME))
    text = path.read_text(encoding="utf-8") if path.exists() else None
    return resolve({}, os.environ, text, str(path))[0]


if __name__ == "__main__":
    main()
