"""``cdcctl consumer``: runs the satellites, and scaffolds new ones."""
