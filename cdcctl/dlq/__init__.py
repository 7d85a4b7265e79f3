"""``cdcctl dlq``: lists, redrives and drops a consumer's dead letters."""
