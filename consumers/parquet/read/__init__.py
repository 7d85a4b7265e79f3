"""Questions to the lake: SQL, current rows, reports."""
