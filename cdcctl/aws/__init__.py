"""``cdcctl aws``: the IAM policies that each part needs."""
