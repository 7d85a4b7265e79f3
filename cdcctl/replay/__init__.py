"""``cdcctl replay``: replays a range of the stream into a satellite or to stdout."""
