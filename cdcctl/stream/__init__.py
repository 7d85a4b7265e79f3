"""``cdcctl stream``: the Kinesis data stream."""
