"""Every kind of tampering at random places is detected, and an unaltered log verifies."""

import os
import random
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from consumers.audit.log import open_log
from tests.support.audit_logs import filled
from tests.support.scale import scale

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(scale(120, 3600))]
ENTRIES = scale(2_000, 100_000)
TAMPERINGS = scale(150, 10_000)
Tampering = Callable[[sqlite3.Connection, random.Random], None]
COLUMNS = ("key", "after", "position", "commit_time", "tbl", "op", "xid", "sequence_number", "hash")
WINDOW = 400  # entries of the small log that most tamperings are tried on


def flip(log: sqlite3.Connection, chance: random.Random) -> None:
    """Flip one bit of one value of one entry."""
    chain, number = place(log, chance)
    column = chance.choice(COLUMNS)
    [(value,)] = log.execute(f"SELECT {column} FROM entry WHERE chain = ? AND number = ?", (chain, number)).fetchall()
    update = f"UPDATE OR IGNORE entry SET {column} = ? WHERE chain = ? AND number = ?"
    while not log.execute(update, (flipped(value, chance), chain, number)).rowcount:
        pass  # the result was the position of another entry, which the table itself refuses


def remove(log: sqlite3.Connection, chance: random.Random) -> None:
    log.execute("DELETE FROM entry WHERE chain = ? AND number = ?", place(log, chance))


def remove_and_close_up(log: sqlite3.Connection, chance: random.Random) -> None:
    chain, number = place(log, chance)
    log.execute("DELETE FROM entry WHERE chain = ? AND number = ?", (chain, number))
    log.execute("UPDATE entry SET number = -number WHERE chain = ? AND number > ?", (chain, number))
    log.execute("UPDATE entry SET number = -number - 1 WHERE chain = ? AND number < 0", (chain,))


def swap(log: sqlite3.Connection, chance: random.Random) -> None:
    chain, number = place(log, chance, last=1)
    for old, new in ((number, -1), (number + 1, number), (-1, number + 1)):
        log.execute("UPDATE entry SET number = ? WHERE chain = ? AND number = ?", (new, chain, old))


def insert(log: sqlite3.Connection, chance: random.Random) -> None:
    """Insert a copy with a correct hash, and renumber the later entries."""
    chain, number = place(log, chance)
    log.execute("UPDATE entry SET number = -number WHERE chain = ? AND number >= ?", (chain, number))
    log.execute("UPDATE entry SET number = -number + 1 WHERE chain = ? AND number < 0", (chain,))
    columns = [row[1] for row in log.execute("PRAGMA table_info(entry)") if row[1] not in ("number", "position")]
    log.execute(
        f"INSERT INTO entry (number, position, {', '.join(columns)}) SELECT ?, position || 'x', {', '.join(columns)} "
        "FROM entry WHERE chain = ? AND number = ?", (number, chain, number + 1),
    )  # fmt: skip


def cut(log: sqlite3.Connection, chance: random.Random) -> None:
    chain, number = place(log, chance)
    log.execute("DELETE FROM entry WHERE chain = ? AND number >= ?", (chain, number))


def rewrite(log: sqlite3.Connection, chance: random.Random) -> None:
    """Alter an entry and compute every later hash again."""
    from consumers.audit.proof.chain import GENESIS, link
    from consumers.audit.store import _COLUMNS, _entry

    chain, number = place(log, chance)
    log.execute("UPDATE entry SET after = '{\"n\":-1}' WHERE chain = ? AND number = ?", (chain, number))
    row = log.execute("SELECT hash FROM entry WHERE chain = ? AND number = ?", (chain, number - 1)).fetchone()
    previous = GENESIS if row is None else row[0]
    query = f"SELECT {_COLUMNS} FROM entry WHERE chain = ? AND number >= ? ORDER BY number"
    for cells in log.execute(query, (chain, number)).fetchall():
        previous = link(previous, _entry(cells))
        log.execute("UPDATE entry SET hash = ? WHERE chain = ? AND number = ?", (previous, chain, cells[1]))


KINDS: tuple[Tampering, ...] = (flip, flip, remove, remove_and_close_up, swap, insert, cut, rewrite)


def place(log: sqlite3.Connection, chance: random.Random, last: int = 0) -> tuple[str, int]:
    chains = log.execute("SELECT chain, max(number) FROM entry GROUP BY chain").fetchall()
    chain, length = chance.choice(chains)
    return chain, chance.randint(1, length - last)


def flipped(value: object, chance: random.Random) -> object:
    if isinstance(value, int):
        return value ^ (1 << chance.randrange(20))
    data = bytearray(value if isinstance(value, bytes) else str(value).encode())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(3)
    return bytes(data) if isinstance(value, bytes) else data.decode()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    filled(folder, ENTRIES, anchor_every=WINDOW)
    return folder


def test_every_tampering_is_detected(whole: Path, tmp_path: Path) -> None:
    seed = int(os.environ.get("CDC_SEED", time.time_ns()))
    sys.stdout.write(f"CDC_SEED={seed}\n")
    chance, missed = random.Random(seed), []
    # many small logs: a tampering affects only its chain, of any length
    small = tmp_path / "small"
    filled(small, WINDOW, anchor_every=40)
    for number in range(TAMPERINGS):
        tampering = chance.choice(KINDS)
        folder = tmp_path / "copy"
        shutil.copytree(small, folder)
        with_log(folder / "audit.sqlite", tampering, chance)
        with open_log(folder) as log:
            if not any(proof.broken for proof in log.verify()):
                missed.append((number, tampering.__name__))
        shutil.rmtree(folder)
    assert missed == []


def test_tamperings_of_the_large_log_are_detected(whole: Path, tmp_path: Path) -> None:
    chance = random.Random(7)
    for tampering in KINDS:
        folder = tmp_path / tampering.__name__
        shutil.copytree(whole, folder, dirs_exist_ok=True)
        with_log(folder / "audit.sqlite", tampering, chance)
        with open_log(folder) as log:
            assert any(proof.broken for proof in log.verify()), tampering.__name__
        shutil.rmtree(folder)


def test_an_unaltered_log_verifies(whole: Path) -> None:
    started = time.monotonic()
    with open_log(whole) as log:
        proofs = log.verify()
    seconds = time.monotonic() - started
    count = sum(proof.entries for proof in proofs)
    sys.stdout.write(f"verified {count:,} entries, {count / seconds:,.0f} per second\n")
    assert not any(proof.broken for proof in proofs)
    assert count == ENTRIES - 1
    assert all(proof.anchored == proof.last for proof in proofs)


def with_log(path: Path, tampering: Tampering, chance: random.Random) -> None:
    connection = sqlite3.connect(path)
    for trigger in ("entry_no_update", "entry_no_delete"):
        connection.execute(f"DROP TRIGGER {trigger}")
    tampering(connection, chance)
    connection.commit()
    connection.close()
