"""``cdcctl search``: queries the search index and rebuilds it."""
