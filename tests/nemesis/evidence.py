"""Collects what the checker judges: the stream, each satellite against its source, and what log-keeping ones hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

import pyarrow as pa

from cdcctl.verify.run import Verification
from cdckit.envelope import decode
from cdckit.packing import decompress
from cdckit.position import Lsn, Position
from cdckit.runtime.settings import Settings
from consumers.audit.log import open_log
from consumers.dead_letters import open_store
from consumers.parquet.lake import Lake
from consumers.stream.reader import StreamReader
from consumers.stream.start import EARLIEST
from consumers.worker.status import Report
from producer.postgres.connection import Source
from tests.nemesis.checker import Satellite, Seen
from tests.nemesis.truth import exact
from tests.support.stream_audit import StreamAudit


def read_stream(stream: str) -> tuple[StreamAudit, Mapping[Position, Seen]]:
    """The whole stream, parents before children, by the standard AWS settings; each change where it came first."""
    audit, seen = StreamAudit(), dict[Position, Seen]()
    for page in StreamReader(stream, EARLIEST, stop_when_caught_up=True).pages():
        for record, arrival in zip(page.records, page.arrivals, strict=True):
            change = decode(record.data)
            audit.see(change)
            known, arrived = seen.get(change.position), arrival.timestamp()
            if known is None or arrived < known.arrived:
                content = exact(decompress(record.data))
                del content["cdc"]
                seen[change.position] = Seen(
                    change.position,
                    change.op,
                    str(change.table),
                    change.key_text,
                    change.commit_time.timestamp(),
                    arrived,
                    content,
                )
    return audit, seen


def satellite(settings: Settings, name: str, fence: Callable[[], Lsn], reports: Sequence[Report] = ()) -> Satellite:
    """One satellite at rest, behind a fence: each row against the source, what it holds, its own proof."""
    holds = _HOLDS.get(name)
    return Satellite(
        name,
        differences=_differences(settings, name, fence),
        holds=None if holds is None else holds(settings),
        reports=reports,
        dead_letters=[letter.error for letter in open_store("", name, settings.folder).read()],
        broken=_broken(settings) if name == "audit" else (),
    )


def _differences(settings: Settings, name: str, fence: Callable[[], Lsn]) -> list[str]:
    with closing(Source(settings.dsn)) as source:
        check = Verification(source, settings, name, fence)
        verdicts = list(check.run(check.tables([]), lambda _table, _text: None))
    return [str(difference) for verdict in verdicts for difference in verdict.differences]


def _audit_holds(settings: Settings) -> Mapping[Position, int]:
    with open_log(settings.satellite("audit")) as log:
        return Counter(
            Position.from_sort_key(entry.position)
            for chain in log.store.chains()
            for entry, _digest in log.store.unsealed_entries(chain)
        )


def _lake_holds(settings: Settings) -> Mapping[Position, int]:
    lake, held = Lake.at(settings.satellite("parquet")), Counter[Position]()
    for ref in lake.tables():
        column = pa.table(lake.open(ref).to_pyarrow_dataset().to_table(columns=["_position"]))["_position"]
        held.update(map(Position.from_sort_key, column.to_pylist()))
    return held


def _broken(settings: Settings) -> list[str]:
    with open_log(settings.satellite("audit")) as log:
        proofs = log.verify()
    return [f"{one.broken.chain}: entry {one.broken.number} {one.broken.reason}" for one in proofs if one.broken]


_HOLDS: Mapping[str, Callable[[Settings], Mapping[Position, int]]] = {"audit": _audit_holds, "parquet": _lake_holds}
