"""``cdcctl parquet``: queries the lake and maintains its files."""
