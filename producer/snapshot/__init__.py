"""Publishes rows that exist already in the database: initial snapshot, backfill and repair."""
