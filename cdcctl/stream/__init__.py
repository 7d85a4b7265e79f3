"""``cdcctl stream``: creates, describes and reshards the Kinesis data stream."""
