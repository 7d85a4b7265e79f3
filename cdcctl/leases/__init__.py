"""``cdcctl leases``: a consumer's leases in DynamoDB."""
