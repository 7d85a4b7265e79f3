"""What ``cdcctl replay`` is made of: a range into a shadow or to stdout, a rewind, a swap, and their undoing."""
