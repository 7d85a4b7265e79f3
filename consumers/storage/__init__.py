"""Durable files on local disk."""
