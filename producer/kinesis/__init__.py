"""The stream: its shards, tags and limits, and PutRecords with retries."""
