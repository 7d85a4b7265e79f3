"""``cdcctl leases``: shows a consumer's leases in DynamoDB."""
