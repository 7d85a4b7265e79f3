"""``cdcctl config``: the settings in force."""
