"""Durable files on local disk and objects in S3."""
