"""Proves that the audit log was not altered: hash chains, signed anchors, sealed segments, verification, export."""
