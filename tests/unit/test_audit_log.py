"""The audit log: each change once in any order of delivery; verification of its chains, anchors and segments."""

import shutil
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdckit.change import Change, Table
from cdckit.errors import SatelliteError, UsageError
from cdckit.sink import Embedded, SinkContext
from cdckit.testing import START, change, deliver
from consumers.audit import query as log
from consumers.audit.log import open_log
from consumers.audit.options import AuditOptions
from consumers.audit.proof.export import export_log, verify_file
from consumers.audit.proof.keys import PRIVATE_KEY_FILE, public_keys, read_public, rotate_signing_key, signing_key
from consumers.audit.sink import open_sink
from tests.support.audit_logs import audit_sink, filled

ORDERS = Table("public", "orders")
HISTORY = [
    change("I", 1, {"status": "new", "total": 5}, at=1),
    change("U", 1, {"status": "paid"}, at=2, annotation={"actor": "alice", "reason": "phoned"}),
    change("I", 2, {"status": "new"}, at=3),
    change("D", 1, at=4, annotation={"actor": "bob"}),
    change("T", at=5),
    change("I", 1, {"status": "again"}, at=6),
]


def broken(folder: Path, options: AuditOptions | None = None) -> list[tuple[str, int]]:
    with open_log(folder, options) as audit:
        return [(proof.chain, proof.broken.number) for proof in audit.verify() if proof.broken is not None]


def test_history_as_of_and_who(tmp_path: Path) -> None:
    sink = audit_sink(tmp_path)
    assert isinstance(sink, Embedded)
    assert deliver(sink, *HISTORY).applied == len(HISTORY)
    sink.close()
    row = log.RowRef("main", ORDERS, "[1]")
    events = log.history(tmp_path, row)
    assert [event.op.value for event in events] == ["I", "U", "D", "I"]
    assert events[1].changed == {"status": ("new", "paid")}
    assert events[2].changed == {"id": (1, None), "status": ("paid", None), "total": (5, None)}
    assert log.as_of(tmp_path, row, START.replace(second=2)) == {"id": 1, "status": "paid", "total": 5}
    assert log.as_of(tmp_path, row, START.replace(second=4)) is None
    [alices] = log.find(tmp_path, log.EntryFilter(actor="alice"))
    assert (alices.xid, alices.changed) == (702, {"status": ("new", "paid")}), (
        "the old value comes from the row's history"
    )
    assert [event.xid for event in log.find(tmp_path, log.EntryFilter(since=START.replace(second=6)))] == [706]
    assert [event.key for event in log.transaction(tmp_path, 703)] == ["[2]"]
    assert [event.op.value for event in log.transaction(tmp_path, 705)] == ["T"], (
        "a truncate is a change of the transaction"
    )
    assert log.current_rows(tmp_path, "main", ORDERS) == {"[1]": {"id": 1, "status": "again"}}


@settings(deadline=None, max_examples=60)
@given(st.permutations(HISTORY), st.lists(st.sampled_from(HISTORY), max_size=8), st.integers(1, 4))
def test_any_order_with_duplicates_gives_the_same_history(order: list[Change], again: list[Change], size: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder, delivery = Path(name), [*order, *again]
        for start in range(0, len(delivery), size):
            sink = audit_sink(folder, f"shard-{start % 2}")
            deliver(sink, *delivery[start : start + size], shard=f"shard-{start % 2}")
            sink.close()
        with open_log(folder) as audit:
            entries = [entry.position for entry in audit.store.entries()]
        assert entries == [item.position.sort_key for item in HISTORY]
        assert broken(folder) == []


def test_a_redelivery_in_one_batch_is_superseded(tmp_path: Path) -> None:
    with closing(audit_sink(tmp_path)) as sink:
        outcome = deliver(sink, HISTORY[0], HISTORY[0], HISTORY[1])
    assert (outcome.applied, outcome.superseded) == (2, 1)


def test_the_log_cannot_be_changed_by_accident(tmp_path: Path) -> None:
    import sqlite3

    with closing(audit_sink(tmp_path)) as sink:
        deliver(sink, *HISTORY)
    with closing(sqlite3.connect(tmp_path / "audit.sqlite")) as connection:
        for statement in ("UPDATE entry SET key = 'x'", "DELETE FROM entry"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)


def test_sealed_entries_are_queried_and_verified_and_not_logged_again(tmp_path: Path) -> None:
    filled(tmp_path, 400)
    row = log.RowRef("main", ORDERS, "[5]")
    before, newest = log.history(tmp_path, row), log.find(tmp_path, log.EntryFilter(limit=30))
    with open_log(tmp_path) as audit:
        made = audit.seal(START.replace(minute=4).isoformat())
        assert sum(segment.last - segment.first + 1 for segment in made) > 200
    assert log.history(tmp_path, row) == before
    assert log.find(tmp_path, log.EntryFilter(limit=30)) == newest
    assert broken(tmp_path) == []
    with closing(audit_sink(tmp_path)) as sink:
        outcome = deliver(sink, *[change("U", at % 97, {"n": at}, at=at) for at in range(1, 60)])
    assert (outcome.applied, outcome.superseded) == (0, 59)
    with closing(audit_sink(tmp_path)) as sink:
        deliver(sink, change("U", 1, {"n": 1}, at=1000))
    assert broken(tmp_path) == [], "the chain continues after the seal"
    with open_log(tmp_path) as audit:
        assert audit.segments.expire(datetime.now(UTC).isoformat())
        proofs = audit.verify()
    assert sum(proof.expired for proof in proofs) > 200
    assert not any(proof.broken for proof in proofs)


def test_a_running_consumer_sees_segments_that_were_sealed_later(tmp_path: Path) -> None:
    sink, old, later = audit_sink(tmp_path), change("I", 1, at=1), change("U", 1, {"n": 2}, at=70)
    deliver(sink, old)
    for before, again in ((60, old), (120, later)):
        deliver(sink, change("U", 1, {"n": before}, at=before + 1), later)
        with open_log(tmp_path) as audit:  # as `cdcctl audit seal` does, in another process
            audit.seal(START.replace(minute=before // 60).isoformat())
        assert deliver(sink, again).superseded == 1
    sink.close()
    with open_log(tmp_path) as audit:
        assert sum(proof.last for proof in audit.verify()) == 4


def test_an_altered_segment_or_manifest_is_found(tmp_path: Path) -> None:
    filled(tmp_path, 200, shards=1)
    with open_log(tmp_path) as audit:
        audit.seal(START.replace(minute=2).isoformat())
    [packed] = tmp_path.rglob("*.jsonl.gz")
    data = bytearray(packed.read_bytes())
    data[len(data) // 2] ^= 1
    packed.write_bytes(bytes(data))
    assert len(broken(tmp_path)) == 1
    packed.unlink()
    assert broken(tmp_path) == [], "an expired segment's manifest is enough"
    [manifest] = (path for path in tmp_path.rglob("*.json") if "segments" in str(path))
    manifest.write_text(manifest.read_text().replace('"last":1', '"last":2', 1))
    assert len(broken(tmp_path)) == 1


def test_an_export_is_verified_with_a_key_alone(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    filled(folder, 300)
    [first] = public_keys(folder / "keys")
    shutil.copy(folder / "keys" / f"{first}.pub.pem", tmp_path / "trusted.pem")
    old, new = rotate_signing_key(folder / "keys")
    assert old == first != new
    assert signing_key(folder / "keys").id == new
    sink = audit_sink(folder)
    deliver(sink, change("I", 1000, {"n": 1}, at=2000), shard="shard-0")
    sink.close()
    with open_log(folder) as audit:
        assert export_log(audit, tmp_path / "audit.jsonl") == 300
    shutil.rmtree(folder)
    proofs = verify_file(tmp_path / "audit.jsonl", read_public(tmp_path / "trusted.pem"))
    assert [(proof.broken, proof.last - proof.anchored) for proof in proofs] == [(None, 0), (None, 0)]
    untrusted = tmp_path / "untrusted"
    signing_key(untrusted)
    [other] = public_keys(untrusted).values()
    assert all(proof.broken for proof in verify_file(tmp_path / "audit.jsonl", other))


def test_the_private_key_is_readable_by_its_owner_only_and_created_once(tmp_path: Path) -> None:
    made = signing_key(tmp_path / "keys").id
    assert (tmp_path / "keys" / PRIVATE_KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert signing_key(tmp_path / "keys").id == made


@pytest.mark.parametrize(
    "options", [{"anchor": "x"}, {"anchor_seconds": "soon"}, {"segments": 3}, {"anchors": "ftp://x"}]
)
def test_an_invalid_option_is_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        open_sink(SinkContext("audit", "shard-0", tmp_path, options))


def test_entries_after_the_last_anchor_are_counted(tmp_path: Path) -> None:
    sink = audit_sink(tmp_path, anchor_seconds=3600)
    deliver(sink, *HISTORY, shard="shard-0")
    with open_log(tmp_path) as audit:
        [proof] = audit.verify()
    assert (proof.anchored, proof.last, proof.broken) == (0, len(HISTORY), None)
    sink.close()
    with open_log(tmp_path) as audit:
        [proof] = audit.verify()
    assert proof.anchored == len(HISTORY), "closing anchors"


def test_a_missing_log_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SatelliteError, match="there is no audit log"), open_log(tmp_path / "none"):
        pass


def test_a_rows_history_is_found_by_an_index(tmp_path: Path) -> None:
    sink = audit_sink(tmp_path)
    deliver(sink, *(change("I", number, {"status": "new"}, at=number) for number in range(1, 3_000)))
    sink.close()
    steps = list[None]()
    with open_log(tmp_path) as audit:
        audit.store.connection.set_progress_handler(lambda: steps.append(None), 100)
        found = list(log._row_entries(audit, log.RowRef("main", ORDERS, "[7]")))
    assert len(found) == 1
    assert len(steps) < 10, "each step is 100 virtual machine instructions: an index search takes a few"
