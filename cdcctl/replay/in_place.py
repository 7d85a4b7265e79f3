"""Rewinds a consumer's checkpoints, or makes a replay's satellite the live one; saves a backup for ``undo``."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cdckit.errors import UsageError
from cdckit.runtime.settings import Settings
from consumers.kcl.leases import LeaseTable
from consumers.kcl.properties import is_local
from consumers.replay import undo
from consumers.replay.rewind import RewindPlan, checkpoint_before, frontier, has_records_since, resume_plan, rewind_plan
from consumers.replay.shadow import Journal
from consumers.stream.probe import Probe
from consumers.stream.start import StartPosition
from consumers.worker.claim import ID_FILE as STORE_ID

_WATCH_LOCAL, _WATCH_AWS = 3.0, 15.0  # seconds; longer than the interval at which a worker renews its lease


@dataclass(frozen=True, slots=True)
class ReplayTarget:
    """The consumer whose leases and satellite are changed."""

    settings: Settings
    name: str

    @property
    def table(self) -> LeaseTable:
        """The consumer's lease table."""
        return LeaseTable(self.settings.application(self.name))

    def stopped(self) -> LeaseTable:
        """The lease table. Raises ConsumerError while a worker is alive, and UsageError when there are no leases."""
        table = self.table
        if table.items() is None:
            raise UsageError(
                f"{table.application!r} has no checkpoints: it has never run", f"cdcctl consumer run {self.name}"
            )
        table.refuse_while_alive(self.name, _WATCH_LOCAL if is_local(os.environ) else _WATCH_AWS)
        return table

    def planned(self, probe: Probe, begin: StartPosition) -> RewindPlan:
        """Compute what a rewind would write."""
        shards = probe.shards()
        first = frontier(shards, has_records_since(probe, begin))
        return rewind_plan(shards, first, self.table.read() or {}, lambda shard: checkpoint_before(probe, shard, begin))

    def rewind(self, probe: Probe, begin: StartPosition) -> tuple[RewindPlan, Path]:
        """Rewind; returns what was written, and the backup file."""
        table = self.stopped()
        found = self.planned(probe, begin)
        backup = self._back_up(table)
        table.rewind(found.checkpoints, found.removed)
        return found, backup

    def swap(self, shadow: Path, journal: Journal) -> Path:
        """Swap the satellite's folder with the replay's, set the checkpoints to its end, and return the backup file."""
        live, replayed = self.settings.satellite(self.name), shadow / self.name
        if not journal.complete or not journal.whole:
            raise UsageError(
                f"{shadow} is incomplete: it was interrupted, or does not cover all tables from earliest to now",
                f"cdcctl replay {self.name} --from earliest, without --to, --table and --where",
            )
        ids = [path.relative_to(live) for path in live.rglob(STORE_ID)]
        if not ids:
            raise UsageError(
                f"the satellite of {self.name} is not in a folder of this host ({live}): it cannot be swapped",
                "use --in-place; for search on OpenSearch: cdcctl search reindex --from earliest",
            )
        table = self.stopped()
        backup = self._back_up(table, live, replayed)
        found = resume_plan(Probe(journal.stream).shards(), journal.checkpoints, table.read() or {})
        table.rewind(found.checkpoints, found.removed)
        for path in ids:  # the store id is claimed beside the leases: the new folder takes it over
            shutil.copy2(live / path, replayed / path)
        undo.swap_folders(live, replayed)
        return backup

    def undo(self) -> Path:
        """Restore the state before the last rewind or swap. Returns the backup file that was used."""
        path, backup = undo.newest_backup(self.settings.folder, self.name)
        undo.undo(path, backup, self.stopped())
        return path

    def _back_up(self, table: LeaseTable, live: Path | None = None, shadow: Path | None = None) -> Path:
        folders = ("", "") if live is None else (str(live), str(shadow))
        return undo.save_backup(
            self.settings.folder, undo.Backup(self.name, table.application, table.items() or [], *folders)
        )
