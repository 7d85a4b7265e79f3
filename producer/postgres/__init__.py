"""The source: connections, the catalog, the replication slot and the WAL that it retains."""
