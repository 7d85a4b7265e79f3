"""The minimal policies: the resources that they name, and the result of a policy linter."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cdcctl.aws import grants
from cdckit.errors import UsageError
from cdckit.runtime.settings import Settings
from tests.support.iam import pairs

KEY = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
SCOPE = grants.PolicyScope("eu-central-1", "123456789012")
WITH_KEYS = grants.PolicyScope("eu-central-1", "123456789012", stream_key=KEY, bucket_key=KEY, database="db-ABC")
SEARCH = {"engine": "opensearch", "url": f"https://vpc-orders-{'a1' * 13}.eu-west-1.es.amazonaws.com"}
WITH_STORES = Settings(
    dead_letters="s3://letters/dead",
    oversize="s3://large/o",
    consumers={
        "parquet": {"url": "s3://lake/l"},
        "audit": {"anchors": "s3://locked/a", "anchor_lock_days": 30},
        "search": SEARCH,
    },
)
ALL: dict[str, grants.Policy] = {
    "producer": grants.producer(
        Settings(dsn_secret="cdc/source", mask_key="secretsmanager:cdc/mask", oversize="s3://large"), WITH_KEYS
    ),
    "producer-iam": grants.producer(Settings(dsn="host=h user=cdc", iam_auth="yes"), WITH_KEYS),
    "tail": grants.tail(Settings(), WITH_KEYS),
    **{name: grants.consumer(WITH_STORES, name, WITH_KEYS) for name in ("search", "parquet", "audit", "replica")},
    "fan-out": grants.consumer(Settings(), "search", SCOPE, fan_out=True),
    "queue": grants.consumer(
        Settings(dead_letters="https://sqs.eu-central-1.amazonaws.com/123456789012/dead"), "search", SCOPE
    ),
}


def test_a_policy_linter_finds_nothing(tmp_path: Path) -> None:
    for name, policy in ALL.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(policy))
    assert linted(tmp_path) == []


def linted(folder: Path) -> list[Any]:
    """The findings of parliament for the policies in a folder. It runs as a program because its import warns."""
    result = subprocess.run(
        [str(Path(sys.executable).with_name("parliament")), "--directory", str(folder), "--json"],
        env={**os.environ, "PYTHONWARNINGS": "ignore"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not result.stderr, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_linter_finds_a_wrong_policy(tmp_path: Path) -> None:
    (tmp_path / "wrong.json").write_text(json.dumps(grants._policy([grants._allow("A", ["Nonsense"], "s3", "*")])))
    assert linted(tmp_path)


@pytest.mark.parametrize("name", ALL)
def test_a_star_stands_only_where_no_name_will_do(name: str) -> None:
    for sid, action, resource in pairs(ALL[name]):
        assert "*" not in action
        assert resource != "*" or sid == "Metrics"
        if resource.count("*") and resource != "*":
            assert resource.startswith(("arn:aws:s3:::", "arn:aws:es:")) or "/consumer/" in resource


def resources(policy: grants.Policy) -> set[str]:
    return {resource for _, _, resource in pairs(policy)}


def test_only_the_three_lease_tables_of_this_consumer_and_its_index() -> None:
    tables = {arn for arn in resources(grants.consumer(Settings(), "search", SCOPE)) if ":dynamodb:" in arn}
    start = "arn:aws:dynamodb:eu-central-1:123456789012:table/cdc-search"
    index = f"{start}/index/LeaseOwnerToLeaseKeyIndex"
    assert tables == {start, index, f"{start}-CoordinatorState", f"{start}-WorkerMetricStats"}


def test_buckets_domains_and_queues_are_named() -> None:
    assert "arn:aws:s3:::lake/l/*" in resources(ALL["parquet"])
    assert "arn:aws:s3:::letters/dead/parquet/*" in resources(ALL["parquet"])
    assert "arn:aws:s3:::locked/a/*" in resources(ALL["audit"])
    assert "arn:aws:es:eu-west-1:123456789012:domain/orders/*" in resources(ALL["search"])
    assert "arn:aws:s3:::large/o/*" in resources(ALL["parquet"])
    assert "arn:aws:s3:::large/main/*" in resources(ALL["producer"])
    assert "arn:aws:sqs:eu-central-1:123456789012:dead" in resources(ALL["queue"])


def test_the_audit_consumer_cannot_delete_an_anchor() -> None:
    actions = {action for _, action, _ in pairs(ALL["audit"])}
    anchors = {action for sid, action, _ in pairs(ALL["audit"]) if sid == "Anchors"}
    assert anchors == {"s3:PutObject", "s3:PutObjectRetention"}
    assert "s3:DeleteObject" not in actions


def test_the_login_is_for_one_user_or_one_secret() -> None:
    assert "arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-ABC/cdc" in resources(ALL["producer-iam"])
    assert "arn:aws:secretsmanager:eu-central-1:123456789012:secret:cdc/source-??????" in resources(ALL["producer"])
    assert "arn:aws:secretsmanager:eu-central-1:123456789012:secret:cdc/mask-??????" in resources(ALL["producer"])
    arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:cdc/source-AbCdEf"
    assert arn in resources(grants.producer(Settings(dsn_secret=arn), SCOPE))


def test_missing_information_is_an_error() -> None:
    with pytest.raises(UsageError, match="resource id and the user"):
        grants.producer(Settings(dsn="user=cdc", iam_auth="yes"), SCOPE)
    with pytest.raises(UsageError, match="no policy can be made"):
        grants.consumer(Settings(consumers={"parquet": {"url": "gs://lake"}}), "parquet", SCOPE)
