"""The audit satellite: every change once, in commit order, with who and why."""
