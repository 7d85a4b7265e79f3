"""What ``cdcctl tail`` is made of: pages of the stream, put in order, and shown."""
