"""The replica satellite: the source's tables as tables again, in SQLite or another PostgreSQL; only the public kit."""
