"""Converts PostgreSQL's values to Arrow columns and back, without loss."""
