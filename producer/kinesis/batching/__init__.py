"""How records are queued and batched into PutRecords entries, in order per key."""
