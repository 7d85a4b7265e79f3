"""One properties file a consumer, as the plain MultiLangDaemon reads it."""
