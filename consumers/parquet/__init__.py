"""The columnar satellite: a Delta Lake of Parquet files that follows the source."""
