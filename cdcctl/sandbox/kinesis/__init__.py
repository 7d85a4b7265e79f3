"""The sandbox's Kinesis data plane: stores records in files, so that puts and reads do not slow down as data grows."""
