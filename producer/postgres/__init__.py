"""The source: connections, the catalogue, the replication slot and the WAL that it retains."""
