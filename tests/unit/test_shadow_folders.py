"""A replay's new satellite never writes where the live one does, whatever `cdc.toml` configures."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from cdckit.runtime.settings import Settings
from cdckit.testing import change, deliver
from consumers.worker.factory import sink_context
from consumers.worker.registry import find_factory


@pytest.mark.parametrize(
    ("consumer", "options"),
    [
        ("audit", {"anchors": "{live}/anchors", "segments": "{live}/segments", "keys": "{live}/keys"}),
        ("parquet", {"url": "{live}/lake"}),
        ("replica", {"dsn": "postgresql://u:p@127.0.0.1:1/live"}),
        ("search", {}),
    ],
)
def test_nothing_is_written_outside_the_shadow(consumer: str, options: Mapping[str, str], tmp_path: Path) -> None:
    live = tmp_path / "live"
    named = {name: value.format(live=live) for name, value in options.items()}
    settings = Settings(data=str(live), consumers={consumer: named})
    context = sink_context(settings, consumer, "shard-0", tmp_path / "replays" / "one")
    sink = find_factory(consumer)(context)
    assert deliver(sink, change("I", 1, {"status": "new"}), change("D", 1, at=2)).applied == 2
    sink.close()
    assert not live.exists()
    assert any((tmp_path / "replays" / "one" / consumer).iterdir())
