"""The embedded engine: SQLite FTS5, one file per generation."""
