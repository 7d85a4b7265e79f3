"""Claim checks: a reference leads to the stored change, and nothing else passes for that change."""

import gzip
import json
from pathlib import Path

import pytest

from cdckit.change import Table
from cdckit.claim_check import decode_reference, memory_size
from cdckit.envelope import decode, position_and_time
from cdckit.errors import ConsumerError, EnvelopeError, UsageError
from cdckit.packing import compress
from cdckit.testing import FaultySink
from consumers.dead_letters import open_store
from consumers.stream.claim_check import Fetcher
from consumers.stream.record import RawRecord
from consumers.worker.delivery import DeadLetterShare, Delivery
from consumers.worker.redrive import redrive
from consumers.worker.shard import portions
from producer.kinesis.claim_check import open_claim_check
from producer.records import Record
from tests.support.histories import entry

TABLE = Table("public", "orders")


def kept(folder: Path, value: str = "x" * 5000) -> tuple[bytes, bytes]:
    """Return the whole record and its reference."""
    whole = entry("I", 7, value, 9)
    oversize = open_claim_check(folder.as_uri(), "main")
    assert oversize is not None
    return whole.data, oversize(Record(whole.partition_key, whole.data, TABLE), compress(whole.data)).data


def objects(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_reference_is_small_and_leads_back(tmp_path: Path) -> None:
    whole, reference = kept(tmp_path)
    assert len(reference) < 600
    assert Fetcher().decode(reference) == decode(whole) == Fetcher().decode(whole)
    assert position_and_time(reference) == (decode(whole).position, decode(whole).commit_time)
    assert memory_size(reference) == len(whole)
    assert json.loads(reference)["table"] == "orders"


def test_published_again_it_is_kept_once(tmp_path: Path) -> None:
    assert kept(tmp_path) == kept(tmp_path)
    assert len(objects(tmp_path)) == 1


def test_without_the_kit_a_reference_is_no_change(tmp_path: Path) -> None:
    with pytest.raises(EnvelopeError, match="reference"):
        decode(kept(tmp_path)[1])


def test_missing_and_altered_objects_are_dead_letters_until_they_are_back(tmp_path: Path) -> None:
    _, missing = kept(tmp_path / "kept", "a" * 5000)
    [gone] = objects(tmp_path / "kept")
    backup = gone.read_bytes()
    gone.unlink()
    _, altered = kept(tmp_path / "kept", "b" * 5000)
    [swapped] = objects(tmp_path / "kept")
    swapped.write_bytes(gzip.compress(b"something else"))
    sink, letters = FaultySink(), open_store("", "test", tmp_path)
    delivery = Delivery("test", "shardId-0", sink, letters, DeadLetterShare(1.0))
    records = [RawRecord(data, "k", str(number)) for number, data in enumerate((missing, altered), 1)]
    assert delivery.deliver(records) == []
    assert ["is missing" in letters.read()[0].error, "was altered" in letters.read()[1].error] == [True, True]
    positions = [(letter.table, letter.position) for letter in letters.read()]
    assert positions == [(str(TABLE), str(position_and_time(data)[0])) for data in (missing, altered)], (
        "which table to publish again"
    )
    gone.write_bytes(backup)
    done = redrive(letters.read(), letters, lambda: sink)
    assert done.outcome.applied == 1
    assert ["altered" in reason for _, reason in done.remaining] == [True]


def test_a_store_that_refuses_ends_the_process_instead_of_draining_into_dead_letters(tmp_path: Path) -> None:
    _, reference = kept(tmp_path)
    [path] = objects(tmp_path)
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("")
    with pytest.raises(ConsumerError, match="cannot be read"):
        Fetcher().decode(reference)


def test_an_object_that_decompresses_to_more_than_the_reference_says_is_refused(tmp_path: Path) -> None:
    _, reference = kept(tmp_path)
    stored = decode_reference(reference)
    assert stored is not None
    lying = reference.replace(f'"bytes":{stored.bytes}'.encode(), b'"bytes":100')
    with pytest.raises(EnvelopeError, match="decompresses to more"):
        Fetcher().decode(lying)


@pytest.mark.parametrize(("url", "size", "said"), [
    ("file:///dev/zero", 10, "not a file"),  # would never end
    ("file:///tmp", 10, "not a file"),
    ("file:///etc/hostname", 10, "altered"),  # another file of the host is no change
    ("http://169.254.169.254/latest/meta-data", 10, "neither file:// nor s3://"),
    ("file:///nowhere", 10**15, "no such value"),  # would take forever to decompress
    ("file:///nowhere", -1, "no such value"),
])  # fmt: skip
def test_a_forged_reference_reads_nothing_that_was_not_kept(tmp_path: Path, url: str, size: int, said: str) -> None:
    forged = json.loads(kept(tmp_path)[1])
    forged["kept"] |= {"url": url, "bytes": size}
    with pytest.raises(EnvelopeError, match=said):
        Fetcher().decode(json.dumps(forged, separators=(",", ":")).encode())


def test_a_page_of_references_is_taken_in_portions(tmp_path: Path) -> None:
    _, reference = kept(tmp_path)
    records = [RawRecord(reference, "k", str(number)) for number in range(7)]
    runs = list(portions(records, 2 * memory_size(reference)))
    assert [(len(run.records), run.size) for run in runs] == [(n, n * memory_size(reference)) for n in (2, 2, 2, 1)]
    assert [record for run in runs for record in run.records] == records
    assert list(portions([])) == []


def test_a_place_that_cannot_be_is_refused() -> None:
    for url in ("ftp://x/y", "s3:///nothing", "relative/folder", "file://host/x"):
        with pytest.raises(UsageError, match="oversize cannot be"):
            open_claim_check(url, "main")
    assert open_claim_check("", "main") is None
