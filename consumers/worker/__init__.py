"""Runs a sink on one shard: decodes, applies, flushes, checkpoints and reports; does not know the KCL."""
