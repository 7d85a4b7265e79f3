"""``cdcctl search``: queries and rebuilds the full-text index."""
