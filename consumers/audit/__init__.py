"""The audit satellite: a tamper-evident log of every change, once, in commit order, with who made it and why."""
