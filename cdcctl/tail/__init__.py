"""``cdcctl tail``: live changes of the stream."""
