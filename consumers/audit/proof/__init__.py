"""Proves that nobody has altered the audit log: hash chains, signed anchors, sealed segments, verification, export."""
