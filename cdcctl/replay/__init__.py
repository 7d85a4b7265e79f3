"""``cdcctl replay``: applies a range of the stream again."""
