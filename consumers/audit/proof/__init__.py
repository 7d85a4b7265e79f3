"""What proves that the audit log is untouched: hash chains, signed anchors, sealed segments."""
