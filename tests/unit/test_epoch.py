"""Another server, or one whose LSNs went backwards, is refused without --new-epoch."""

from dataclasses import replace

import pytest

from cdckit.errors import EpochChanged, SlotLost
from cdckit.position import Lsn
from producer.epoch import RequestedSlot, StreamState, decide_origin
from producer.postgres.server import Server
from producer.records import Origin

SERVER = Server("7711", 1, Lsn(5000), "shop", "15.2", "logical", "UTF8")
BEFORE = StreamState(Origin("main", 3, "7711", 1, "cdc"), Lsn(4000))
WANTED = RequestedSlot("main", "cdc")


def decide(server: Server, recorded: StreamState | None = BEFORE, *, slot: bool = True, new: bool = False) -> Origin:
    return decide_origin(recorded, server, WANTED, slot_exists=slot, new_epoch=new)


def test_the_first_run_is_epoch_one() -> None:
    assert decide(SERVER, None, slot=False) == Origin("main", 1, "7711", 1, "cdc")


def test_a_failover_that_kept_the_slot_only_changes_the_timeline() -> None:
    assert decide(replace(SERVER, timeline=2)) == Origin("main", 3, "7711", 2, "cdc")


@pytest.mark.parametrize(
    ("server", "message"),
    [(replace(SERVER, system="42"), "42 answers"), (replace(SERVER, lsn=Lsn(3999)), "WAL ends at 0/F9F")],
)
def test_another_server_is_refused_without_new_epoch(server: Server, message: str) -> None:
    with pytest.raises(EpochChanged, match=message) as raised:
        decide(server)
    assert "--new-epoch" in raised.value.hint
    assert decide(server, new=True).epoch == 4


def test_a_slot_that_is_gone_tells_from_where_on_changes_are_missing() -> None:
    with pytest.raises(SlotLost, match="0/FA0"):
        decide(SERVER, slot=False)


def test_another_slot_is_refused() -> None:
    with pytest.raises(SlotLost, match="was fed from the slot 'other'"):
        decide(SERVER, StreamState(replace(BEFORE.origin, slot="other"), Lsn(0)))
