"""From the messages of wal2json to records for the stream."""
