"""``cdcctl consumer``: runs the satellites' consumers and generates packages for new ones."""
