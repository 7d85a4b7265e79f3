"""``cdcctl audit``: queries the audit log (who changed what, when and why) and verifies it."""
