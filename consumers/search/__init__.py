"""The search satellite: a full-text index of the source's rows, in SQLite or OpenSearch."""
