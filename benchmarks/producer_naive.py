"""The simplest possible producer: one put_record per change, each acknowledged on its own."""

from __future__ import annotations

import json
import os
from typing import Any

import boto3
import psycopg2
import psycopg2.extras


def main() -> None:
    kinesis = boto3.client("kinesis")
    connection = psycopg2.connect(os.environ["DSN"], connection_factory=psycopg2.extras.LogicalReplicationConnection)
    cursor: Any = connection.cursor()
    cursor.start_replication(
        slot_name=os.environ["SLOT"], decode=True, options={"format-version": "2", "include-lsn": "1"}
    )

    def publish(message: Any) -> None:
        change = json.loads(message.payload)
        if change["action"] in "IUD":
            key = str(change["columns"][0]["value"])
            kinesis.put_record(StreamName="bench", Data=message.payload.encode(), PartitionKey=key)
        message.cursor.send_feedback(flush_lsn=message.data_start)

    cursor.consume_stream(publish)


if __name__ == "__main__":
    main()
