"""``cdcctl producer``: runs the producer, backfills tables and shows the slot."""
