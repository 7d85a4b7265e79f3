"""Queues records and groups them into PutRecords requests, in order per key."""
