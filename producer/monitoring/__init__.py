"""The producer's metrics and its health endpoint."""
