"""Runs a sink on one shard: decode, apply, flush, checkpoint, report; knows nothing of the KCL."""
