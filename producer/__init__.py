"""Reads a PostgreSQL replication slot and publishes every change to a Kinesis stream; nothing else."""
