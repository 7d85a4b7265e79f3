"""Which changes a selection matches (range, tables, operations, keys), and the points in time that users type."""

from datetime import UTC, datetime, timedelta

import pytest

from cdcctl.timespec import parse_point
from cdckit.change import Op
from cdckit.errors import UsageError
from cdckit.position import Lsn, Position
from cdckit.testing import START, change
from consumers.filters.selection import Selection
from consumers.stream.points import OLDEST, Point

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("10m", Point(NOW - timedelta(minutes=10))),
        ("2026-11-23T10:00:00Z", Point(datetime(2026, 11, 23, 10, tzinfo=UTC))),
        ("2026-11-23 10:00+02:00", Point(datetime(2026, 11, 23, 8, tzinfo=UTC))),
        ("earliest", Point(OLDEST)),
        ("16/B374D848", Point(lsn=Lsn.parse("16/B374D848"))),
        ("2:16/B374D848:3", Point(position=Position(2, Lsn.parse("16/B374D848"), 3))),
    ],
)
def test_points_that_users_type(text: str, point: Point) -> None:
    assert parse_point(text, NOW) == point


@pytest.mark.parametrize("text", ["soon", "16/", "10:00", "1:2:3", "999999999999999d", "", "2027-01-01T00:00Z"])
def test_a_text_that_is_no_point_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_point(text, NOW)


def test_an_end_may_lie_ahead() -> None:
    assert parse_point("2027-01-01T00:00Z", NOW, future=True).moment > NOW


@pytest.mark.parametrize(
    ("since", "until"),
    [
        (Point(START + timedelta(seconds=3)), Point(START + timedelta(seconds=5))),
        (Point(lsn=Lsn(3)), Point(lsn=Lsn(5))),
        (Point(position=Position(1, Lsn(3), 0)), Point(position=Position(1, Lsn(5), 0))),
    ],
)
def test_both_ends_of_a_range_belong_to_it(since: Point, until: Point) -> None:
    chosen = Selection(since, until)
    assert [at for at in range(10) if chosen.matches(change("I", 1, at=at))] == [3, 4, 5]


def test_a_position_is_exact_where_an_lsn_is_a_whole_transaction() -> None:
    changes = [change("I", 1, at=at, index=index) for at in (1, 2) for index in (0, 1)]
    assert [Point(lsn=Lsn(2)).is_before(one) for one in changes] == [False] * 4
    assert [Point(position=Position(1, Lsn(2), 0)).is_before(one) for one in changes] == [False, False, False, True]


def test_tables_ops_and_keys() -> None:
    changes = [
        change("I", 1),
        change("U", 2, {}, table="shop.order_lines"),
        change("D", {"a": 1, "b": "x"}, table="logs"),
    ]

    def matched(**wanted: object) -> list[int]:
        chosen = Selection(**wanted)  # type: ignore[arg-type]
        return [number for number, one in enumerate(changes) if chosen.matches(one)]

    assert matched() == [0, 1, 2]
    assert matched(tables=("public.*",)) == [0, 2]
    assert matched(tables=("order*",)) == [0, 1]
    assert matched(ops=frozenset({Op.DELETE, Op.INSERT})) == [0, 2]
    assert matched(keys=frozenset({"2"})) == [1]
    assert matched(keys=frozenset({"[1]", "1,x"})) == [0, 2]


def test_an_unreadable_record_is_selected_by_its_arrival() -> None:
    chosen = Selection(Point(START), Point(START + timedelta(seconds=9)))
    matched = [chosen.matches_unreadable(START + timedelta(seconds=at)) for at in (-1, 0, 9, 10)]
    assert matched == [False, True, True, False]
    assert Selection(Point(lsn=Lsn(5))).matches_unreadable(START)
