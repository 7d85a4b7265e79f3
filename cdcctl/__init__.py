"""The command line `cdcctl`: one folder per noun, with its command in `cli.py`."""
