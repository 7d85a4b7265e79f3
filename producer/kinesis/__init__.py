"""The Kinesis stream: its shards, tags and limits, and PutRecords with retries."""
