"""Fuzzing of what reads bytes from outside: wal2json's messages and the records of the stream."""
