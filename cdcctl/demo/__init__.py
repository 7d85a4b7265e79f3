"""``cdcctl demo``: runs the full pipeline locally with a workload and verifies the result."""
