"""Follows the shapes of tables over time, and makes the satellites right again after DDL."""
