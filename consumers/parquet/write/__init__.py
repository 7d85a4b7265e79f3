"""Writes changes as commits of Delta tables, each change exactly once."""
