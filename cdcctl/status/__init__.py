"""``cdcctl status`` and ``cdcctl top``: the state of the pipeline, from the WAL to the satellites."""
