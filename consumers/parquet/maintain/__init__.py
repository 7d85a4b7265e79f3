"""Keeps the tables of the lake small and fast: merges small files and deletes expired ones."""
