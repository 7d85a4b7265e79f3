"""One properties file per consumer, as the plain MultiLangDaemon reads it."""
