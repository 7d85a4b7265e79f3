"""``cdcctl slot``: lists, creates and drops replication slots."""
