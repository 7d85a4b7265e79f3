"""Selects changes by time, table, key, operation and a condition on the row."""
