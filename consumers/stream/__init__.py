"""The stream without the KCL: its shards, where reading starts and stops, its records."""
