"""Turns wal2json's messages into records for the stream."""
