"""From changes to commits of a Delta table."""
