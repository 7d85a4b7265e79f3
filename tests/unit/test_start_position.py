"""Where a first start begins to read, also on a stream that was split and merged."""

from datetime import UTC, datetime

from consumers.stream.start import EARLIEST, LATEST, StartPosition

SHARDS = [
    {"ShardId": "0", "SequenceNumberRange": {"EndingSequenceNumber": "9"}},
    {"ShardId": "1", "SequenceNumberRange": {}},
    {"ShardId": "2", "SequenceNumberRange": {}, "ParentShardId": "0"},
    {"ShardId": "3", "SequenceNumberRange": {}, "ParentShardId": "gone", "AdjacentParentShardId": "0"},
    {"ShardId": "4", "SequenceNumberRange": {}, "ParentShardId": "gone"},
]


def test_the_oldest_known_shards_start_and_their_children_follow() -> None:
    assert EARLIEST.seeds(SHARDS) == ["0", "1", "4"]
    assert StartPosition("AT_TIMESTAMP", datetime(2026, 1, 1, tzinfo=UTC)).seeds(SHARDS) == ["0", "1", "4"]


def test_from_latest_on_only_open_shards_matter() -> None:
    assert LATEST.seeds(SHARDS) == ["1", "2", "3", "4"]


def test_one_property_sets_the_start_position() -> None:
    assert EARLIEST.properties == {"initialPositionInStream": "TRIM_HORIZON"}
    moment = StartPosition("AT_TIMESTAMP", datetime(2026, 1, 1, tzinfo=UTC))
    assert moment.properties == {"initialPositionInStreamExtended": "1767225600"}
