"""Rows that are in the database already, put on the stream: snapshot, backfill and repair."""
