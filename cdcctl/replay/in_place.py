"""Moves a consumer's own checkpoints, or puts a shadow in its satellite's place; what was is kept for ``undo``."""

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

_WATCH_LOCAL, _WATCH_AWS = 3.0, 15.0  # longer than a live worker takes to renew its lease


@dataclass(frozen=True, slots=True)
class Consumer:
    """One consumer's leases and satellite."""

    settings: Settings
    name: str

    @property
    def table(self) -> LeaseTable:
        """Its leases."""
        return LeaseTable(self.settings.application(self.name))

    def stopped(self) -> LeaseTable:
        """Its leases. Raises ConsumerError while a worker is alive, UsageError when it never ran."""
        table = self.table
        if table.items() is None:
            raise UsageError(
                f"{table.application!r} never ran: it has no checkpoints", f"cdcctl consumer run {self.name}"
            )
        table.refuse_while_alive(self.name, _WATCH_LOCAL if is_local(os.environ) else _WATCH_AWS)
        return table

    def planned(self, probe: Probe, begin: StartPosition) -> RewindPlan:
        """What a rewind would write."""
        shards = probe.shards()
        first = frontier(shards, has_records_since(probe, begin))
        return rewind_plan(shards, first, self.table.read() or {}, lambda shard: checkpoint_before(probe, shard, begin))

    def rewind(self, probe: Probe, begin: StartPosition) -> tuple[RewindPlan, Path]:
        """Write it; the second is the backup."""
        table = self.stopped()
        found = self.planned(probe, begin)
        backup = self._keep(table)
        table.rewind(found.checkpoints, found.removed)
        return found, backup

    def swap(self, shadow: Path, journal: Journal) -> Path:
        """Put the shadow in the satellite's place, and the checkpoints where the replay ended; the backup's file."""
        live, fresh = self.settings.satellite(self.name), shadow / self.name
        if not journal.complete or not journal.whole:
            raise UsageError(
                f"{shadow} holds only a part: it was cut off, begins late, ends early, or left rows out",
                "replay from earliest to the present, without --to, --table and --where",
            )
        ids = [path.relative_to(live) for path in live.rglob(STORE_ID)]
        if not ids:
            raise UsageError(
                f"the satellite of {self.name} is not a folder of this host ({live}): nothing can change places",
                "use --in-place; for search on OpenSearch: cdcctl search reindex --from earliest",
            )
        table = self.stopped()
        backup = self._keep(table, live, fresh)
        found = resume_plan(Probe(journal.stream).shards(), journal.checkpoints, table.read() or {})
        table.rewind(found.checkpoints, found.removed)
        for path in ids:  # the claim beside the leases is the store's: it moves to the new one
            shutil.copy2(live / path, fresh / path)
        undo.swap_folders(live, fresh)
        return backup

    def undo(self) -> Path:
        """Put back what the last rewind or swap changed; the file that held it."""
        path, backup = undo.newest_backup(self.settings.folder, self.name)
        undo.undo(path, backup, self.stopped())
        return path

    def _keep(self, table: LeaseTable, live: Path | None = None, shadow: Path | None = None) -> Path:
        folders = ("", "") if live is None else (str(live), str(shadow))
        return undo.save_backup(
            self.settings.folder, undo.Backup(self.name, table.application, table.items() or [], *folders)
        )
