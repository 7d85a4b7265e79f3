"""An embedded store claims its consumer beside the leases; a second store is refused, a moved one is not."""

import shutil
from pathlib import Path

import boto3
import pytest

from consumers.kcl.leases import LeaseTable
from consumers.worker.claim import ClaimedElsewhere, claim_store
from tests.support.local_aws import Cloud

pytestmark = pytest.mark.integration


@pytest.fixture
def application(cloud: Cloud, stream: str) -> str:
    LeaseTable(stream).seed(["shardId-000000000000"])
    return stream


def test_a_second_store_is_refused_with_the_first_one_s_place(application: str, tmp_path: Path) -> None:
    claim_store(application, tmp_path / "one")
    claim_store(application, tmp_path / "one")
    with pytest.raises(ClaimedElsewhere, match=str(tmp_path / "one")) as raised:
        claim_store(application, tmp_path / "other")
    assert "--take-over" in raised.value.hint


def test_a_store_that_was_moved_keeps_its_claim(application: str, tmp_path: Path) -> None:
    claim_store(application, tmp_path / "one")
    shutil.move(tmp_path / "one", tmp_path / "moved")
    claim_store(application, tmp_path / "moved")


def test_a_store_takes_over_only_on_request(application: str, tmp_path: Path) -> None:
    claim_store(application, tmp_path / "one")
    claim_store(application, tmp_path / "other", take_over=True)
    with pytest.raises(ClaimedElsewhere):
        claim_store(application, tmp_path / "one")


def test_only_a_dead_worker_s_own_lock_is_released(application: str) -> None:
    table = boto3.resource("dynamodb").Table(f"{application}-CoordinatorState")
    table.put_item(Item={"key": "Leader", "ownerName": "host-search-0"})
    LeaseTable(application).release_leader("host-search-1")
    assert "Item" in table.get_item(Key={"key": "Leader"})
    LeaseTable(application).release_leader("host-search-0")
    assert "Item" not in table.get_item(Key={"key": "Leader"})
    LeaseTable("never-ran").release_leader("host-search-0")


def test_seeding_twice_leaves_the_leases_unchanged(application: str) -> None:
    table = LeaseTable(application)
    assert table.seed(["shardId-000000000000"], "LATEST") is False
    leases = table.read()
    assert leases is not None
    assert leases["shardId-000000000000"].checkpoint == "TRIM_HORIZON"


def test_an_owner_may_be_seeded_and_is_not_taken_for_alive(application: str) -> None:
    table = LeaseTable(f"{application}-owned")
    assert table.seed(["shardId-000000000000", "shardId-000000000001"], owner="host-search-0") is True
    leases = table.read()
    assert leases is not None
    assert {(lease.owner, lease.checkpoint) for lease in leases.values()} == {("host-search-0", "TRIM_HORIZON")}
    assert table.live_leases(0.5) == []
