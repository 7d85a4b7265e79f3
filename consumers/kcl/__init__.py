"""The Kinesis Client Library (KCL): its daemon, properties, leases and protocol."""
