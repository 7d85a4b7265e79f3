"""The Parquet satellite: a Delta Lake with every change, queried for current rows, changes, or rows as of a time."""
