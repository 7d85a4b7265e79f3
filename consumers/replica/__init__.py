"""The replica satellite: copies of the source's tables, in SQLite or another PostgreSQL. Uses only the public kit."""
