"""``cdcctl verify``: verifies that a satellite equals the source, row by row."""
