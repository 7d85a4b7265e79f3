"""Masks values that must not leave the database in plain text."""
