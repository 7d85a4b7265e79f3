"""Decides which epoch of which server a stream follows; the stream's own tag stores it.

The tag ``cdc.source.<id>`` on the stream names the server that the stream's positions come from, so that a producer
started anywhere (a laptop, EC2, Lambda) finds it without a store of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cdckit.change import NO_LSN
from cdckit.errors import EpochChanged, SlotLost
from cdckit.position import Lsn
from producer.kinesis.stream import Stream
from producer.postgres.server import Server
from producer.records import Origin

_TAG = re.compile(r"epoch=(\d+) system=(\d+) timeline=(\d+) slot=(\S+)(?: lsn=(\S+))?")


@dataclass(frozen=True, slots=True)
class StreamState:
    """The tag's content: the origin of the positions, and an acknowledged position (not always the last one)."""

    origin: Origin
    acknowledged: Lsn


def read_state(stream: Stream, source: str) -> StreamState | None:
    """Return the state of this source on the stream; None before the first run. Raises StreamError."""
    match = _TAG.fullmatch(stream.tag(_tag(source)) or "")
    if match is None:
        return None
    origin = Origin(source, int(match[1]), match[2], int(match[3]), match[4])
    return StreamState(origin, Lsn.parse(match[5]) if match[5] else Lsn(0))


def write_state(stream: Stream, origin: Origin, acknowledged: Lsn = NO_LSN) -> None:
    """Record which server the stream follows, and how far it is acknowledged. Raises StreamError."""
    value = f"epoch={origin.epoch} system={origin.system} timeline={origin.timeline} slot={origin.slot}"
    stream.set_tag(_tag(origin.source), value + (f" lsn={acknowledged}" if acknowledged else ""))


@dataclass(frozen=True, slots=True)
class RequestedSlot:
    """The source and the slot that the settings name."""

    source: str
    slot: str


def decide_origin(
    recorded: StreamState | None, server: Server, requested: RequestedSlot, *, slot_exists: bool, new_epoch: bool
) -> Origin:
    """Return the origin for the envelopes: the recorded one, a first one, or on request one of a new epoch; pure.

    Raises EpochChanged when another server answers, and SlotLost when the slot that fed the stream does not exist. In
    both cases changes may be missing from the stream; a new epoch with a snapshot repairs that.
    """
    source, slot = requested.source, requested.slot
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
            + (f", not {slot!r}" if before != slot else f", which does not exist: later changes are not in it{since}"),
            f"use --slot {before}, or start a new slot with --new-epoch"
            if before != slot
            else "cdcctl producer run --new-epoch creates it again; the changes in between are in no satellite",
        )
    return Origin(source, recorded.origin.epoch, server.system, server.timeline, slot)


def _check_system(recorded: StreamState, server: Server) -> None:
    hint = "if this is intended: cdcctl producer run --new-epoch (satellites then rank its changes above the old ones)"
    if recorded.origin.system != server.system:
        raise EpochChanged(
            f"the stream follows the PostgreSQL system {recorded.origin.system}, but {server.system} answers: a "
            "restore, an upgrade or another server, whose LSNs start again",
            hint,
        )
    if server.lsn < recorded.acknowledged:
        raise EpochChanged(
            f"the stream holds changes up to {recorded.acknowledged}, but the server's WAL ends at {server.lsn}: it "
            "was restored, or a failover lost its last changes",
            hint,
        )


def _tag(source: str) -> str:
    return f"cdc.source.{source}"
