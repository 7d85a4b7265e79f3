"""A sink for the kit's chaos tests: stores each applied position, fails in every way that a sink can."""

import os
import random
import sqlite3
import threading
import time
from pathlib import Path

from cdckit.change import Change
from cdckit.errors import PoisonChange, TransientSinkError
from cdckit.sink import Batch, Outcome, Sink, SinkContext

FILE = "ledger.sqlite"
POISON = 97  # keys divisible by it can never be applied


class LedgerSink:
    """One transaction per batch. CDC_TEST_FAULTS: chance of a fault per call. CDC_TEST_SLOW: seconds per change."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.embedded_in = folder
        self._db = sqlite3.connect(folder / FILE, timeout=60, isolation_level=None)
        self._db.execute("PRAGMA busy_timeout = 60000")
        self._db.execute("CREATE TABLE IF NOT EXISTS seen (position TEXT PRIMARY KEY)")
        self._db.execute("CREATE TABLE IF NOT EXISTS row (id INTEGER PRIMARY KEY, position TEXT, value TEXT)")
        self._chance = float(os.environ.get("CDC_TEST_FAULTS", "0"))
        self._has_a_bug = random.random() < 0.5  # not in all: a batch that is often halved must succeed once
        self._slow = float(os.environ.get("CDC_TEST_SLOW", "0"))
        self.max_changes = 1_000 if self._slow else 20_000
        self._done = Outcome()

    def apply(self, batch: Batch) -> None:
        if any(is_poison(change) for change in batch.changes):
            raise PoisonChange("its key is poison")
        time.sleep(self._slow * len(batch.items))
        done = Outcome()
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for change in batch.changes:
                done += Outcome(applied=1) if self._apply_change(change) else Outcome(superseded=1)
            if random.random() < 0.05:
                self._print_noise()
            self._fault()
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        self._done += done

    def flush(self) -> Outcome:
        self._fault()
        done, self._done = self._done, Outcome()
        return done

    def close(self) -> None:
        self._db.close()

    def _apply_change(self, change: Change) -> bool:
        position = change.position.sort_key
        fresh = self._db.execute("INSERT OR IGNORE INTO seen VALUES (?)", (position,)).rowcount
        value = None if change.after is None else str(change.after["value"])
        self._db.execute(
            "INSERT INTO row VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET position = excluded.position, "
            "value = excluded.value WHERE excluded.position > position",
            (change.key["id"], position, value),
        )
        return bool(fresh)

    def _fault(self) -> None:
        if random.random() < self._chance:
            bug = self._has_a_bug and random.random() < 0.3
            raise RuntimeError("a bug") if bug else TransientSinkError("planned fault")

    def _print_noise(self) -> None:
        """Prints from eight threads, and to the file descriptor: none of it may reach the daemon's protocol."""
        threads = [threading.Thread(target=print, args=('{"action": "status"}' * 20,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        os.write(1, b'\n{"action": "checkpoint", "sequenceNumber": "1"}\n')
        for thread in threads:
            thread.join()


def is_poison(change: Change) -> bool:
    return int(str(change.key["id"])) % POISON == 0


def open_sink(context: SinkContext) -> Sink:
    return LedgerSink(context.folder)
