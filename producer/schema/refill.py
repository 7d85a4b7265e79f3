"""Carries a refill out: the reset where it is asked for, then the rows as the table has them now."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from cdckit.runtime.settings import Settings
from producer.postgres.catalog import shape_of
from producer.postgres.connection import Source
from producer.postgres.credentials import SourceDsn
from producer.schema.tracker import Refill
from producer.snapshot.backfill import BackfillRequest, backfill, open_endpoints
from producer.snapshot.reset import publish_reset

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refiller:
    """Refills tables of one producer's source."""

    settings: Settings

    def __call__(self, refill: Refill, stopping: Callable[[], bool]) -> bool:
        """Make the satellites right; False when it was stopped before its end. Raises CdcError."""
        with closing(Source(SourceDsn(self.settings)())) as source:
            exists = shape_of(source, refill.table) is not None
        if exists:
            return self._publish(refill, stopping)
        if refill.reset:
            with open_endpoints(self.settings) as endpoints, closing(Source(endpoints.dsn())) as source:
                publish_reset(endpoints, source, refill.table, refill.reason)
        return True

    def _publish(self, refill: Refill, stopping: Callable[[], bool]) -> bool:
        asked = BackfillRequest([refill.table], reset=refill.reset, reason=refill.reason)
        figures, done = backfill(self.settings, asked, stopping, lambda _figures: None)
        if done:
            logger.info("published %s rows of %s again", f"{figures.rows:,}", refill.table)
        return done
