"""Which changes a user wants to see: by table, key, time, operation and a condition on the row."""
