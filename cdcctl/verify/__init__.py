"""``cdcctl verify``: proves that a satellite equals the source."""
