"""The slot's status by its WAL limits."""

import pytest

from cdckit.errors import UsageError
from cdckit.position import Lsn
from producer.postgres.slot_monitor import evaluate, parse_size
from producer.postgres.slots import Slot

GB = 1024**3


def slot(retained: int, status: str = "reserved", limit: int | None = None) -> Slot:
    return Slot("cdc", "wal2json", "shop", None, Lsn(1), status, retained, limit)


@pytest.mark.parametrize(
    ("state", "budget", "level"),
    [
        (slot(100 * GB), None, "ok"),
        (slot(4 * GB), 10 * GB, "ok"),
        (slot(5 * GB), 10 * GB, "warning"),
        (slot(9 * GB, limit=20 * GB), 10 * GB, "warning"),
        (slot(19 * GB, limit=20 * GB), 100 * GB, "danger"),
        (slot(1, "unreserved"), None, "danger"),
        (slot(1, "lost"), None, "danger"),
    ],
)
def test_the_smaller_limit_counts(state: Slot, budget: int | None, level: str) -> None:
    verdict = evaluate(state, budget)
    assert verdict.level == level
    assert bool(verdict.hint) == (level != "ok")


@pytest.mark.parametrize(("text", "size"), [("", None), ("10GB", 10 * GB), ("512 kB", 512 * 1024), ("7", 7)])
def test_sizes_are_postgresqls(text: str, size: int | None) -> None:
    assert parse_size(text) == size


def test_a_size_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="10XB"):
        parse_size("10XB")
