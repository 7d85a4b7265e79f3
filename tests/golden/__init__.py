"""Golden records: files that the real encoder wrote once. They hold the wire format (docs/wire-format.md)."""
