"""``cdcctl init``: asks a few questions and writes ``cdc.toml``."""
