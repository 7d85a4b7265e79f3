"""Watches a run: samples the slot and the satellites' own accounts, and measures how long each recovery takes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from cdckit.errors import CdcError
from cdckit.position import Lsn
from consumers.worker.status import Report
from producer.postgres.connection import Source
from producer.postgres.server import wal_end
from producer.postgres.slots import find_slot
from tests.nemesis.checker import Sample
from tests.nemesis.place import Place

_EVERY = 0.1
_FAR_BEHIND = 8.0  # seconds


@dataclass
class Healed:
    """A fault that was healed: recovered when all that was committed until then is published, and read everywhere."""

    kind: str
    at: float
    committed: Lsn | None = None
    published: float | None = None
    recovered: float | None = None


@dataclass
class Watch:
    """Looks ten times a second until it is left."""

    place: Place
    samples: list[Sample] = field(default_factory=list)
    healed: list[Healed] = field(default_factory=list)
    accounts: dict[tuple[str, str, int, int], Report] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)
    _ends: deque[tuple[float, Lsn]] = field(default_factory=deque)
    _source: Source | None = None

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def heal(self, kind: str) -> None:
        """A fault of this kind has just been healed."""
        self.healed.append(Healed(kind, time.time()))

    @property
    def recovered(self) -> bool:
        """Whether the system has recovered from all that was healed."""
        return all(one.recovered is not None for one in self.healed)

    @property
    def full(self) -> bool:
        """Whether the producer is far behind: a machine that is slow, or a long fault."""
        return bool(self._ends) and time.time() - self._ends[0][0] > _FAR_BEHIND

    def reports(self, name: str) -> Sequence[Report]:
        """A satellite's accounts as they were seen: the last one of each of its processes."""
        return [report for (satellite, *_), report in self.accounts.items() if satellite == name]

    def _run(self) -> None:
        while not self._ended.wait(_EVERY):
            with suppress(CdcError):  # PostgreSQL is away
                self._look()
                continue
            self._close()
        self._close()

    def _close(self) -> None:
        if self._source is not None:
            self._source.close()
        self._source = None

    def _look(self) -> None:
        self._source = self._source or Source(self.place.settings.dsn)
        end = wal_end(self._source)
        slot = find_slot(self._source, self.place.settings.slot)
        now = time.time()
        for name, reports in self.place.reports().items():
            self._account(name, reports)
        if slot is None:
            return
        self.samples.append(Sample(now, slot.confirmed))
        self._ends.append((now, end))
        while self._ends and self._ends[0][1] <= slot.confirmed:
            self._ends.popleft()
        for one in self.healed:
            self._follow(one, end, slot.confirmed, now)

    def _account(self, name: str, reports: Sequence[Report]) -> None:
        for report in reports:
            key = (name, report.shard, report.pid, int(report.started))
            known = self.accounts.get(key)
            if known is None or known.read == sum((known.applied, known.superseded, known.dead_lettered)):
                self.accounts[key] = report

    def _follow(self, one: Healed, end: Lsn, confirmed: Lsn, now: float) -> None:
        if one.recovered is not None:
            return
        if one.committed is None:
            one.committed = end
        elif one.published is None and confirmed >= one.committed:
            one.published = now
        elif one.published is not None and self.place.follow_since(one.published):
            one.recovered = now

    def recovery_seconds(self) -> Mapping[str, float | None]:
        """Over all faults: the median and the longest."""
        took = sorted(one.recovered - one.at for one in self.healed if one.recovered is not None)
        if not took:
            return {"p50": None, "max": None}
        return {"p50": round(took[len(took) // 2], 1), "max": round(took[-1], 1)}
