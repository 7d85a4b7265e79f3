"""``cdcctl audit``: who changed what, when and why, and the proof of it."""
