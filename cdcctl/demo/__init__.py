"""``cdcctl demo``: the full pipeline on this machine, with a workload, verified at the end."""
