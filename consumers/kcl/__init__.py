"""The Kinesis Client Library: the MultiLangDaemon, its properties, its leases and its protocol."""
