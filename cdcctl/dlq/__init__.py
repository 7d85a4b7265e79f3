"""``cdcctl dlq``: the dead letters of a consumer."""
