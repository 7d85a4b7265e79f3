"""Compares a real PostgreSQL with a satellite in memory: differences are found, and there are no false alarms."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from cdcctl.verify.canonical import RowComparer, RowValues
from cdcctl.verify.compare import MAX_DIFFERENCES, TableResult, compare, run_sharing_fences
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


def verify(side: SourceTable, held: dict[str, RowValues], fence: Callable[[], None] = lambda: None) -> TableResult:
    def wait() -> Lsn:
        fence()
        return Lsn(1)

    [result] = run_sharing_fences([compare(side, RowComparer(side.columns), lambda: list(held.items()))], wait)
    return result


def test_equal_sides_are_equal_and_generated_columns_are_ignored(side: SourceTable) -> None:
    held = dict(side.rows())
    assert len(held) == 3000
    assert "twice" not in held['[1,"k\\"1"]']
    result = verify(side, held)
    assert (result.equal, result.rows, result.suspects) == (True, 3000, 0)


def test_a_changed_cell_a_missing_row_and_a_surplus_row_are_reported(side: SourceTable) -> None:
    held = dict(side.rows())
    changed, missing, extra = '[7,"k\\"7"]', '[8,"k\\"8"]', '[-1,"surplus"]'
    held[changed] = {**held[changed], "n": 10}
    del held[missing]
    held[extra] = {"a": -1, "B c": "surplus"}
    found = {difference.key: difference for difference in verify(side, held).differences}
    assert set(found) == {changed, missing, extra}
    assert found[changed].columns == ["n"]
    assert "missing in the satellite" in str(found[missing])
    assert "only in the satellite" in str(found[extra])


def test_rows_that_keep_changing_are_not_differences(side: SourceTable, postgres: Database) -> None:
    """The satellite is exact at each fence, and the source changes immediately after."""
    held = dict(side.rows())

    def follow() -> None:
        postgres.run('UPDATE "Odd Table" SET n = n + 1 WHERE a <= 40', 'DELETE FROM "Odd Table" WHERE a % 97 = 5')
        with closing(Source(postgres.dsn)) as another:
            held.clear()
            held.update(SourceTable.open(another, TABLE).rows())
        postgres.run('UPDATE "Odd Table" SET n = n + 1 WHERE a BETWEEN 30 AND 60')

    result = verify(side, held, follow)
    assert result.equal
    assert result.suspects > 0


def test_one_difference_among_thousands_of_changed_rows_is_found(side: SourceTable, postgres: Database) -> None:
    """Every row is a suspect; the last one is checked too before the table is called equal."""
    held, fences, last = dict(side.rows()), 0, '[999,"k\\"999"]'

    def follow() -> None:
        nonlocal fences
        fences += 1
        if fences <= 2:  # after the source was read: change all rows in source and satellite, except one cell
            postgres.run('UPDATE "Odd Table" SET n = n + 1')
            with closing(Source(postgres.dsn)) as another:
                held.update(SourceTable.open(another, TABLE).rows())
        held[last] = {**held[last], "doc": "{}"}

    result = verify(side, held, follow)
    assert max(held) == last
    assert result.suspects == 3000
    assert [(difference.key, difference.columns) for difference in result.differences] == [(last, ["doc"])]


def test_nan_and_infinity_are_counted_and_equal_null(side: SourceTable, postgres: Database) -> None:
    postgres.run("""UPDATE "Odd Table" SET n = 'NaN', f = '-Infinity' WHERE a = 5""")
    held = dict(side.rows())
    held['[5,"k\\"5"]'] = {**held['[5,"k\\"5"]'], "n": None, "f": None}
    result = verify(side, held)
    assert result.equal
    assert result.unverifiable == 2


def test_an_empty_satellite_is_reported_without_checking_every_row(side: SourceTable) -> None:
    result = verify(side, {})
    assert result.suspects == 3000
    assert MAX_DIFFERENCES <= len(result.differences) == result.checked < 3000


def test_a_row_that_never_settles_is_neither_equal_nor_different(side: SourceTable, postgres: Database) -> None:
    held = dict(side.rows())
    hot = '[7,"k\\"7"]'
    held[hot] = {**held[hot], "n": -1}
    result = verify(side, held, lambda: postgres.run('UPDATE "Odd Table" SET n = n + 1 WHERE a = 7'))
    assert (result.differences, result.unsettled) == ([], 1)
    assert str(result) == "~ equal, 1 rows not compared: they kept changing"


def test_tables_share_their_fences(side: SourceTable, postgres: Database) -> None:
    """Three tables, one of which differs, need as many fences as that one alone."""
    held, fences = dict(side.rows()), list[Lsn]()
    other = {**held, '[7,"k\\"7"]': {**held['[7,"k\\"7"]'], "n": 10}}

    def wait() -> Lsn:
        fences.append(Lsn(len(fences) + 1))
        return fences[-1]

    comparer, sides = RowComparer(side.columns), (held, other, held)
    results = run_sharing_fences([compare(side, comparer, satellite.items) for satellite in sides], wait)
    assert [len(result.differences) for result in results] == [0, 1, 0]
    assert [result.fence for result in results] == [1, len(fences), 1]
    assert len(fences) == 4, "hashes, rows, and two checks of the difference"


def test_tables_are_listed(side: SourceTable) -> None:
    assert TABLE in tables(side.source)
