"""The stream is asked for its record limit; no local Kinesis has the setting, so its answer is stubbed."""

from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from producer.kinesis.limits import StreamLimits
from producer.kinesis.stream import Stream

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({}, StreamLimits(MIB)),
        ({"MaxRecordSizeInKiB": 1024}, StreamLimits(MIB)),
        ({"MaxRecordSizeInKiB": 5120}, StreamLimits(5 * MIB, request=10 * MIB)),
        ({"MaxRecordSizeInKiB": 10240}, StreamLimits(10 * MIB, request=10 * MIB)),
    ],
)
def test_a_stream_that_takes_larger_records_is_detected(setting: dict[str, Any], expected: StreamLimits) -> None:
    client = boto3.client("kinesis", "eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    summary = {
        "StreamName": "cdc", "StreamARN": "arn:aws:kinesis:eu-west-1:000000000000:stream/cdc", "StreamStatus": "ACTIVE",
        "RetentionPeriodHours": 24, "StreamCreationTimestamp": 0, "EnhancedMonitoring": [], "OpenShardCount": 1,
        **setting,
    }  # fmt: skip
    with Stubber(client) as stub:
        stub.add_response("describe_stream_summary", {"StreamDescriptionSummary": summary}, {"StreamName": "cdc"})
        assert Stream(client, "cdc").limits() == expected
