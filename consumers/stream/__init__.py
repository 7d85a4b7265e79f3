"""Reads the stream without the KCL: its shards, records, start positions and stop conditions."""
