"""``cdcctl aws``: prints the IAM policy that each part needs."""
