"""The sandbox's Kinesis data plane: records in files, so that a put or a read costs the same whatever is stored."""
