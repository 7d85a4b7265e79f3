"""``cdcctl producer``: publishes changes, snapshots and backfills."""
