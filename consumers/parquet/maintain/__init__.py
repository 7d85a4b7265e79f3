"""Keeps the lake's tables small and fast: compaction and clean-up beside readers and writers."""
