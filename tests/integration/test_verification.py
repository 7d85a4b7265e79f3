"""Source against a satellite that is held in memory, with a real PostgreSQL: what is found, and what is no alarm."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from cdcctl.verify.canonical import Canon, Row
from cdcctl.verify.compare import MOST_DIFFERENCES, Verdict, compare, side_by_side
from cdcctl.verify.source import SourceTable, tables
from cdckit.change import Table
from cdckit.position import Lsn
from producer.postgres.connection import Source
from tests.support.postgres import Database

pytestmark = pytest.mark.integration
TABLE = Table("public", "Odd Table")
_SCHEMA = """
CREATE TABLE "Odd Table" (a int, "B c" text, n numeric, f float8, t timestamptz, raw bytea, ok boolean, doc jsonb,
  twice int GENERATED ALWAYS AS (a * 2) STORED, PRIMARY KEY ("B c", a));
INSERT INTO "Odd Table" SELECT g, 'k"' || g, g * 1.50, g / 7.0, '2026-11-24 10:00:00.120+01',
  decode(md5(g::text), 'hex'),
  g % 2 = 0, jsonb_build_object('g', g) FROM generate_series(1, 3000) g
"""


@pytest.fixture
def side(postgres: Database) -> Iterator[SourceTable]:
    postgres.run(_SCHEMA)
    with closing(Source(postgres.dsn)) as source:
        yield SourceTable.open(source, TABLE)


def verify(side: SourceTable, held: dict[str, Row], fence: Callable[[], None] = lambda: None) -> Verdict:
    def passed() -> Lsn:
        fence()
        return Lsn(1)

    [found] = side_by_side([compare(side, Canon(side.columns), lambda: list(held.items()))], passed)
    return found


def test_equal_sides_are_equal_and_generated_columns_are_no_part_of_it(side: SourceTable) -> None:
    held = dict(side.rows())
    assert len(held) == 3000
    assert "twice" not in held['["k\\"1",1]']
    verdict = verify(side, held)
    assert (verdict.equal, verdict.rows, verdict.suspects) == (True, 3000, 0)


def test_a_changed_cell_a_missing_row_and_one_too_many_are_named(side: SourceTable) -> None:
    held = dict(side.rows())
    changed, missing, extra = '["k\\"7",7]', '["k\\"8",8]', '["gone",-1]'
    held[changed] = {**held[changed], "n": 10}
    del held[missing]
    held[extra] = {"a": -1, "B c": "gone"}
    found = {one.key: one for one in verify(side, held).differences}
    assert set(found) == {changed, missing, extra}
    assert found[changed].columns == ["n"]
    assert "missing in the satellite" in str(found[missing])
    assert "only in the satellite" in str(found[extra])


def test_rows_that_change_all_the_time_are_no_differences(side: SourceTable, postgres: Database) -> None:
    """The satellite is exact at each fence, and the source runs on at once."""
    held = dict(side.rows())

    def follow() -> None:
        postgres.run('UPDATE "Odd Table" SET n = n + 1 WHERE a <= 40', 'DELETE FROM "Odd Table" WHERE a % 97 = 5')
        with closing(Source(postgres.dsn)) as another:
            held.clear()
            held.update(SourceTable.open(another, TABLE).rows())
        postgres.run('UPDATE "Odd Table" SET n = n + 1 WHERE a BETWEEN 30 AND 60')

    verdict = verify(side, held, follow)
    assert verdict.equal
    assert verdict.suspects > 0


def test_one_difference_behind_thousands_of_rows_that_only_moved_is_found(
    side: SourceTable, postgres: Database
) -> None:
    """Every row is suspected; what sorts last is looked at too before the table is called equal."""
    held, fences, last = dict(side.rows()), 0, '["k\\"999",999]'

    def follow() -> None:
        nonlocal fences
        fences += 1
        if fences <= 2:  # the source was read: now all rows move, and the satellite follows but for one cell
            postgres.run('UPDATE "Odd Table" SET n = n + 1')
            with closing(Source(postgres.dsn)) as another:
                held.update(SourceTable.open(another, TABLE).rows())
        held[last] = {**held[last], "doc": "{}"}

    verdict = verify(side, held, follow)
    assert max(held) == last
    assert verdict.suspects == 3000
    assert [(one.key, one.columns) for one in verdict.differences] == [(last, ["doc"])]


def test_not_a_number_is_counted_and_equals_null(side: SourceTable, postgres: Database) -> None:
    postgres.run("""UPDATE "Odd Table" SET n = 'NaN', f = '-Infinity' WHERE a = 5""")
    held = dict(side.rows())
    held['["k\\"5",5]'] = {**held['["k\\"5",5]'], "n": None, "f": None}
    verdict = verify(side, held)
    assert verdict.equal
    assert verdict.unverifiable == 2


def test_an_empty_satellite_is_told_without_looking_at_every_row(side: SourceTable) -> None:
    verdict = verify(side, {})
    assert verdict.suspects == 3000
    assert MOST_DIFFERENCES <= len(verdict.differences) == verdict.looked_at < 3000


def test_a_row_that_never_rests_is_neither_equal_nor_different(side: SourceTable, postgres: Database) -> None:
    held = dict(side.rows())
    hot = '["k\\"7",7]'
    held[hot] = {**held[hot], "n": -1}
    verdict = verify(side, held, lambda: postgres.run('UPDATE "Odd Table" SET n = n + 1 WHERE a = 7'))
    assert (verdict.differences, verdict.unsettled) == ([], 1)
    assert str(verdict) == "~ equal, but 1 kept changing: not compared"


def test_tables_share_their_fences(side: SourceTable, postgres: Database) -> None:
    """Three tables, one of which differs: as many fences as that one needs alone."""
    held, fences = dict(side.rows()), list[Lsn]()
    other = {**held, '["k\\"7",7]': {**held['["k\\"7",7]'], "n": 10}}

    def passed() -> Lsn:
        fences.append(Lsn(len(fences) + 1))
        return fences[-1]

    canon, sides = Canon(side.columns), (held, other, held)
    found = side_by_side([compare(side, canon, one.items) for one in sides], passed)
    assert [len(one.differences) for one in found] == [0, 1, 0]
    assert [one.fence for one in found] == [1, len(fences), 1]
    assert len(fences) == 4, "hashes, rows, and two looks at what differs"


def test_tables_are_listed(side: SourceTable) -> None:
    assert TABLE in tables(side.source)
