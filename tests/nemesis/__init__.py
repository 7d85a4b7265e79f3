"""The whole system under a nemesis: seeded workload and faults, and a checker of the laws (docs/reliability.md)."""
