"""``cdcctl parquet``: queries the Parquet lake and maintains its files."""
