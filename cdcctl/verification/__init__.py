"""Proves that a satellite equals the source: fence, hashes of key ranges, rows, a second look at what differs."""
