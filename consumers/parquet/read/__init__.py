"""Reads the lake: SQL queries, current rows, and figures about tables and files."""
