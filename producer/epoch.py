"""Which server a stream follows, at which epoch: kept as a tag of the stream, and the rules for a new one.

The tag ``cdc.source.<id>`` on the stream says which server the stream's positions come from, so that a producer started
anywhere (a laptop, EC2, Lambda) knows it without a store of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cdckit.change import NO_LSN
from cdckit.errors import EpochChanged, SlotLost
from cdckit.position import Lsn
from producer.kinesis.stream import Stream
from producer.postgres.connection import Server
from producer.records import Origin

_TAG = re.compile(r"epoch=(\d+) system=(\d+) timeline=(\d+) slot=(\S+)(?: lsn=(\S+))?")


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the tag says: whose positions these are, and a position that was acknowledged (not always the last)."""

    origin: Origin
    acknowledged: Lsn


def read_state(stream: Stream, source: str) -> Recorded | None:
    """Which server the stream's positions of this source come from; None before the first run. Raises StreamError."""
    match = _TAG.fullmatch(stream.tag(_tag(source)) or "")
    if match is None:
        return None
    origin = Origin(source, int(match[1]), match[2], int(match[3]), match[4])
    return Recorded(origin, Lsn.parse(match[5]) if match[5] else Lsn(0))


def write_state(stream: Stream, origin: Origin, acknowledged: Lsn = NO_LSN) -> None:
    """Record which server the stream follows, and how far it is acknowledged. Raises StreamError."""
    value = f"epoch={origin.epoch} system={origin.system} timeline={origin.timeline} slot={origin.slot}"
    stream.set_tag(_tag(origin.source), value + (f" lsn={acknowledged}" if acknowledged else ""))


@dataclass(frozen=True, slots=True)
class Wanted:
    """The source and the slot that the settings name."""

    source: str
    slot: str


def decide_origin(
    recorded: Recorded | None, server: Server, wanted: Wanted, *, slot_exists: bool, new_epoch: bool
) -> Origin:
    """The origin to stamp: the recorded one, a first one, or (only when told so) a new epoch; pure.

    Raises EpochChanged when another server answers, and SlotLost when the slot that fed the stream is gone: in both
    cases changes may be missing from the stream, which a new epoch (and a snapshot) makes good.
    """
    source, slot = wanted.source, wanted.slot
    if recorded is None:
        return Origin(source, 1, server.system, server.timeline, slot)
    if new_epoch:
        return Origin(source, recorded.origin.epoch + 1, server.system, server.timeline, slot)
    _check_system(recorded, server)
    before = recorded.origin.slot
    if not slot_exists or before != slot:
        since = f" (the last known position is {recorded.acknowledged})" if recorded.acknowledged else ""
        raise SlotLost(
            f"the stream was fed from the slot {before!r}"
            + (f", not {slot!r}" if before != slot else f", which is gone: changes since then are not in it{since}"),
            f"use --slot {before}, or start a new slot with --new-epoch"
            if before != slot
            else "cdcctl producer run --new-epoch creates it again; the changes in between are in no satellite",
        )
    return Origin(source, recorded.origin.epoch, server.system, server.timeline, slot)


def _check_system(recorded: Recorded, server: Server) -> None:
    meant = "if that is meant: cdcctl producer run --new-epoch (satellites then put its changes above the old ones)"
    if recorded.origin.system != server.system:
        raise EpochChanged(
            f"the stream follows the PostgreSQL system {recorded.origin.system}, but {server.system} answers: a "
            "restore, an upgrade or another server, whose LSNs start anew",
            meant,
        )
    if server.lsn < recorded.acknowledged:
        raise EpochChanged(
            f"the stream holds changes up to {recorded.acknowledged}, but the server's WAL ends at {server.lsn}: it "
            "was restored, or a failover lost its last changes",
            meant,
        )


def _tag(source: str) -> str:
    return f"cdc.source.{source}"
