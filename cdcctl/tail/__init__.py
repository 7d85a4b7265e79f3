"""``cdcctl tail``: prints the changes on the stream."""
