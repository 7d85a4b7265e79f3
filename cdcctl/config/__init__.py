"""``cdcctl config``: shows the resolved settings and the origin of each."""
