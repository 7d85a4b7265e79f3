"""``cdcctl slot``: replication slots."""
