"""The command line: one folder per noun, its command in `cli.py`."""
