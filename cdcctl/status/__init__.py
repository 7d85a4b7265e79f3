"""``cdcctl status`` and ``cdcctl top``: show the state of the pipeline, from the WAL to the satellites."""
